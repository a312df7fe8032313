"""The dial's data: measured curves, fitted parameters and recorded answers of the committed tables.

Strengths are in matching strengths, and so are the fits' parameters.
"""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from splitkit.curves.solvers import NAMES
from splitkit.plots.style import CONTROLS, FORMS, OBJECTIVES
from splitkit.steering.formats.shipped import MODELS
from splitkit.studies.frames import CELL

LABELS = {name: look.label for looks in (FORMS, OBJECTIVES, CONTROLS) for name, look in looks.items()}
DIGITS = 4
QUESTIONS = 3
"""Questions of a cell whose answers are shown."""


def folders(results: Path) -> list[Path]:
    """The folders with curves: the real models' first, then the tiny ones' (of `tiny`, else the record's)."""
    tiny = results / "tiny"
    there = [results / "small", tiny if (tiny / "curves.csv").is_file() else results]
    return [folder for folder in there if (folder / "curves.csv").is_file()]


def dial(results: Path) -> dict[str, Any]:
    """What the page needs: `models` (name, whether real), `labels`, and `cells` in the tables' order."""
    cells = [cell for folder in folders(results) for cell in _cells(folder)]
    names = list(dict.fromkeys(cell["model"] for cell in cells))
    return {
        "models": [{"name": name, "real": name not in MODELS} for name in names],
        "labels": LABELS,
        "cells": cells,
    }


def write(results: Path, file: Path) -> None:
    """Write it as a script, because a page that is opened from a disk may not fetch JSON."""
    text = json.dumps(dial(results), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    file.write_text(f"window.DIAL = {text};\n", encoding="utf-8")


def _cells(folder: Path) -> Iterator[dict[str, Any]]:
    curves = pd.read_csv(folder / "curves.csv")
    curves = curves[curves["seed"] == curves.groupby(CELL[:4])["seed"].transform("min")]
    fits = pd.read_csv(folder / "fits.csv").groupby([*CELL, "split"])
    answers = _recorded(folder)
    for key, rows in curves.groupby(CELL, sort=False):
        splits = {}
        for split, points in rows.groupby("split", sort=False):
            points = points.sort_values("m_relative")
            splits[split] = {
                **{name: _numbers(points[name]) for name in ("m_relative", "preference", "utility")},
                "pairs": int(points["n_pairs"].iloc[0]),
            }
        own = {"fits": _fits(fits, (*key, "train")), "answers": _answers(answers, key)}
        yield dict(zip(CELL, key, strict=True)) | {"splits": splits} | own


def _numbers(values: pd.Series) -> list[float | None]:
    return [_short(value) if math.isfinite(value) else None for value in values]


def _short(value: float) -> float:
    return float(f"{value:.{DIGITS + 1}g}")


PARAMETERS = ("alpha", "beta", "b", "beta_u", "b_u", *NAMES)


def _fits(fits: Any, key: tuple[Any, ...]) -> dict[str, Any]:
    """By curve: its parameters and R², and whether the second solver disagreed; none where nothing fits."""
    rows = fits.get_group(key).to_dict("records") if key in fits.groups else []
    return {
        row["curve"]: {name: _short(row[name]) for name in (*PARAMETERS, "r2") if math.isfinite(row[name])}
        | {"flagged": bool(row["flagged"])}
        for row in rows
        if math.isfinite(row["r2"])
    }


def _recorded(folder: Path) -> pd.DataFrame:
    """Recorded answers: columns of `CELL`, m_relative, question, text; empty where there are none."""
    wanted = [*CELL, "m_relative", "question", "text"]
    found = [pd.DataFrame(columns=wanted)]
    if (folder / "samples.csv").is_file():
        # one question a task, of the first seed
        samples = pd.read_csv(folder / "samples.csv", keep_default_na=False).rename(
            columns={"answer": "text"}
        )
        found.append(samples.assign(seed=0))
    if (folder / "text_answers.csv").is_file():
        texts = pd.read_csv(folder / "text_answers.csv", keep_default_na=False)
        texts = texts[texts["question"].astype(int) < QUESTIONS]
        numbers = texts["question"].astype(int) + 1
        found.append(texts.assign(question="Test question " + numbers.astype(str) + " (not in the table)"))
    return pd.concat(found)[wanted]


def _answers(table: pd.DataFrame, key: tuple[Any, ...]) -> list[dict[str, Any]]:
    """Those of a cell, and before them the unsteered model's: m, question, answer, in the order of m."""
    own = (table[CELL] == list(key)).all(axis=1)
    if not own.any():
        return []
    same = (table[CELL[:2]] == list(key[:2])).all(axis=1)
    rows = table[own | (same & (table["objective"] == "vanilla"))]
    rows = rows.astype({"m_relative": float}).sort_values("m_relative", kind="stable")
    found = zip(rows["m_relative"], rows["question"], rows["text"], strict=True)
    return [{"m": m, "question": str(question), "answer": str(text)} for m, question, text in found]
