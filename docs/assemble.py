"""Write the sources of the site: our pages, the committed notebooks, pages made of the committed tables."""

import importlib.util
import json
import re
import shutil
import sys
from collections.abc import Iterator
from html import escape
from pathlib import Path

import pandas as pd
from PIL import Image

import splitkit
from docs import dial_data, figure_index
from splitkit.storage.paths import ROOT
from splitkit.studies.claims import CLAIMS

RESULTS, FIGURES = ROOT / "data" / "results", ROOT / "figures"
LINK = re.compile(r"(?<!!)\[([^\]\n]+)\]\(((?!https?:|#|mailto:)[^)\s]+)\)")
GRADES = {
    "holds": "holds",
    "holds in part": "part",
    "in part": "part",
    "does not hold": "not",
    "undecided": "open",
}
TIERS = (("small", "real models"), ("tiny", "tiny models"), ("", "tiny models, first record"))


def main(folder: Path) -> None:
    """Make the folder anew."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(ROOT / "docs", folder, ignore=shutil.ignore_patterns("__pycache__"))
    extra = folder / "extra"
    for origin, kinds in ((FIGURES, (".png", ".svg")), (RESULTS, (".csv",))):
        for file in (path for path in sorted(origin.rglob("*")) if path.suffix in kinds):
            place = extra / file.relative_to(ROOT)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, place)
    (extra / "_static").mkdir()
    dial_data.write(RESULTS, extra / "_static" / "dial_data.js")
    vendored = importlib.util.find_spec("sphinx-mathjax-offline")
    assert vendored is not None and vendored.origin, "install the extra [site]"
    mathjax = Path(vendored.origin).parent / "static" / "mathjax" / "tex-svg-full.js"
    shutil.copyfile(mathjax, extra / "_static" / "mathjax.js")
    (folder / "notebooks").mkdir()
    for path in sorted((ROOT / "notebooks").glob("[0-9]*.ipynb")):
        (folder / "notebooks" / path.name).write_text(notebook(path), encoding="utf-8")
    drawn = figure_index.figures(ROOT)
    pages = {"figures.md": figures_page(drawn), "claims.md": claims_page(), "summary.md": summary()}
    pages |= {"api.rst": api_page(), "api-figures.rst": functions_page(drawn)}
    for name, text in pages.items():
        (folder / name).write_text(text, encoding="utf-8")


def notebook(path: Path) -> str:
    """A committed notebook whose links lead to pages and files of the site; others become mere text."""
    content = json.loads(path.read_text(encoding="utf-8"))
    for cell in content["cells"]:
        if cell["cell_type"] == "markdown":
            cell["source"] = LINK.sub(_link, "".join(cell["source"]))
    return json.dumps(content)


def _link(found: re.Match[str]) -> str:
    words, target = found.groups()
    file = (ROOT / "notebooks" / target.split("#")[0]).resolve()
    if file.suffix == ".ipynb" and file.is_file():
        return found[0]
    if file == ROOT / "README.md":
        return f"[{words}](../index.md)"
    if file.suffix in (".csv", ".png", ".svg") and file.is_file() and file.is_relative_to(ROOT):
        return f'<a href="../{file.relative_to(ROOT)}">{words}</a>'
    return words


def figures_page(drawn: list[figure_index.Drawn]) -> str:
    """Every figure with its caption, notebook, function, tables and files."""
    lines = [
        "# Figures",
        "",
        "Every figure that the notebooks save, in their order, with what it is drawn from.",
    ]
    last = ""
    for figure in drawn:
        if figure.notebook != last:
            last = figure.notebook
            lines += ["", f"## {last.replace('_', ' ')}"]
        module, name = figure.function.rsplit(".", 1)
        links = [f"[notebook](notebooks/{figure.notebook}.ipynb)"]
        links += [f"[`{figure.function}`](#splitkit.{module}.{name})"]
        tables = [f'<a href="{t.relative_to(ROOT)}" download>{t.stem}.csv</a>' for t in figure.tables]
        links += [f"data: {', '.join(tables)}" if tables else "data: none kept, computed in the notebook"]
        for file in figure.files:
            alt = escape(f"{file.stem.replace('_', ' ')}: {figure.caption}")
            place, (width, height) = file.relative_to(ROOT), _size(file)
            image = f'<img src="{place}" alt="{alt}" width="{width}" height="{height}" loading="lazy">'
            files = " ".join(
                f'<a href="{place.with_suffix(kind)}" download>{kind[1:].upper()}</a>'
                for kind in (".svg", ".png")
            )
            lines += ["", f"### {file.stem.replace('_', ' ')}", "", image, "", figure.caption, ""]
            lines += [" · ".join([*links, f"download: {files}"])]
    return "\n".join(lines) + "\n"


def _size(png: Path) -> tuple[int, int]:
    """Width and height of a PNG file, in CSS pixels at 150 dpi."""
    with Image.open(png) as image:
        return round(image.width / 1.5625), round(image.height / 1.5625)


def records() -> Iterator[tuple[str, pd.DataFrame]]:
    """Verdicts of each tier that has them, real models first, as text: the claims alone."""
    for name, title in TIERS:
        file = RESULTS / name / "verdicts.csv"
        if file.is_file() and (name or not (RESULTS / "tiny" / "verdicts.csv").is_file()):
            table = pd.read_csv(file, dtype=str, keep_default_na=False)
            yield title, table[table["part"] == "claim"] if "part" in table else table


def badge(verdict: str, more: str = "") -> str:
    """A verdict as HTML; the words carry it, the colour only repeats them."""
    return f'<span class="verdict {GRADES[verdict]}">{escape(verdict + more)}</span>'


def summary() -> str:
    """A row per claim, a column per model: its verdicts and how many task families have each."""
    columns = {
        model: rows[rows["model"] == model] for _, rows in records() for model in rows["model"].unique()
    }
    if not columns:
        return "No verdicts are committed yet.\n"
    lines = [f"| claim | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for claim in CLAIMS.values():
        entries = []
        for rows in columns.values():
            counts = rows[rows["claim"] == claim.id]["verdict"].value_counts()
            several = counts.sum() > 1
            marks = [
                badge(name, f" ({n} of {counts.sum()})" if several else "") for name, n in counts.items()
            ]
            entries.append(" ".join(marks) or "-")
        lines.append(f"| [{claim.id}](claims.md#{claim.id.lower()}) {claim.text} | {' | '.join(entries)} |")
    return "\n".join(lines) + "\n"


def claims_page() -> str:
    """Every claim with its rule, and its verdicts beside the paper's number."""
    lines = [
        "# Claims",
        "",
        "The paper's claims in our words, each with the rule that decides it and every verdict. ",
    ]
    lines += ["A number that the paper does not give is told in words. Download: "]
    names = [name for name, _ in TIERS if (RESULTS / name / "verdicts.csv").is_file()]
    files = [Path("data/results") / name / "verdicts.csv" for name in names]
    lines += [", ".join(f'<a href="{file}" download>{file}</a>' for file in files) + "."]
    for claim in CLAIMS.values():
        lines += [
            "",
            f"({claim.id.lower()})=",
            f"## {claim.id}: {claim.text}",
            "",
            f"In the paper: {claim.where}.",
        ]
        for title, table in records():
            rows = table[table["claim"] == claim.id]
            if rows.empty:
                continue
            rule = escape(rows["rule"].iloc[0]).replace("|", "&#124;")
            lines += ["", f"**{title}**. Rule: {rule}.", ""]
            lines += ["| model | task | verdict | ours | paper |", "|---|---|---|---|---|"]
            for row in rows.to_dict("records"):
                ours = row["ours"] or "no number"
                if row.get("low") and row["low"] != row["high"]:
                    ours += f" [{row['low']}, {row['high']}]"
                why = f"<br>{escape(row['why'])}" if row.get("why") else ""
                cells = [
                    row["model"],
                    row["task"],
                    badge(row["verdict"]) + why,
                    ours,
                    row["paper"] or "not given",
                ]
                lines.append(f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |")
    return "\n".join(lines) + "\n"


def api_page() -> str:
    """The public names, in the order of `splitkit._HOME`: models, pairs, steering, curves, runs."""
    lines = [
        "Public names",
        "============",
        "",
        "``import splitkit as sk`` offers these; each loads at its first use.",
        "",
    ]
    assert set(splitkit._HOME) == set(splitkit.__all__)
    # whole modules last
    for name, home in sorted(splitkit._HOME.items(), key=lambda item: item[0] == item[1]):
        lines += [f"sk.{name}", "-" * (len(name) + 3), ""]
        if home == name:
            lines += [f".. automodule:: splitkit.{home}", "   :members:", ""]
        elif name.isupper():
            there = ", ".join(f"``{key}``" for key in getattr(splitkit, name))
            lines += [f".. py:data:: splitkit.{name}", "", f"   By name: {there}.", ""]
        elif name[0].isupper():
            lines += [f".. autoclass:: splitkit.{name}", "   :members:", ""]
        else:
            lines += [f".. autofunction:: splitkit.{name}", ""]
    return "\n".join(lines)


def functions_page(drawn: list[figure_index.Drawn]) -> str:
    """The functions that draw the notebooks' figures."""
    lines = ["Functions of the figures", "========================", "", "A tidy table in, a figure out.", ""]
    for function in dict.fromkeys(figure.function for figure in drawn):
        lines += [f".. autofunction:: splitkit.{function}", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
