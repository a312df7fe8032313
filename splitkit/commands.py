"""The commands of `python -m splitkit`: from options to a text for stdout, over the public functions."""

import json
from argparse import Namespace
from pathlib import Path
from typing import Any

import pandas as pd

import splitkit
from splitkit.storage import paths

sk: Any = splitkit
"""The public names, each loaded at its first use."""


def run(chosen: Namespace) -> str:
    """What a command has to say: a table, or JSON where that was asked for."""
    found: Any = _COMMANDS[chosen.command](chosen)
    if chosen.json:
        return json.dumps(_plain(found), indent=2, ensure_ascii=False)
    if isinstance(found, list):
        return "\n\n".join(f"{row['question']}\n[m = {row['m']:g}] {row['answer']}" for row in found)
    return "\n".join(
        f"{part.to_string(index=False, float_format='{:.4g}'.format)}\n"
        if isinstance(part, pd.DataFrame)
        else f"{name}: {part}"
        for name, part in found.items()
    )


def _plain(found: Any) -> Any:
    """The same with tables as lists of rows; NaN is null there."""
    if isinstance(found, pd.DataFrame):
        return found.astype(object).where(found.notna(), None).to_dict("records")
    return {name: _plain(part) for name, part in found.items()} if isinstance(found, dict) else found


def _train(chosen: Namespace) -> dict[str, Any]:
    pairs, settings = _pairs(chosen.pairs, chosen.columns), dict(map(_setting, chosen.set))
    model, tokenizer = _model(chosen)
    iv = sk.train(
        model,
        tokenizer,
        pairs,
        chosen.form,
        chosen.objective,
        chosen.layer,
        chosen.seed,
        tokens=chosen.tokens,
        progress=not chosen.quiet,
        **settings,
    )
    unit = sk.matching_strength(model, tokenizer, iv, pairs[:64], progress=not chosen.quiet)
    folder = iv.save(chosen.out)
    losses = iv.details.get("losses")
    return {
        "saved": str(folder),
        "steering": f"{iv.form} by {iv.objective} at layer {iv.layer}, {len(pairs)} pairs",
        **({"loss": f"{losses[0]:.4g} in the first epoch, {losses[-1]:.4g} in the last"} if losses else {}),
        "matching strength": unit,
    }


def _scan(chosen: Namespace) -> dict[str, Any]:
    pairs, held_out = (_pairs(text, chosen.columns) for text in (chosen.pairs, chosen.held_out))
    model, tokenizer = _model(chosen)
    table = sk.scan_layers(
        model, tokenizer, pairs, held_out, chosen.layers or None, progress=not chosen.quiet
    )
    return {"scan": table, "best layer": sk.best_layer(table)}


def _sweep(chosen: Namespace) -> dict[str, Any]:
    pairs = _pairs(chosen.pairs, chosen.columns)
    model, tokenizer, iv = _steered(chosen)
    bars = not chosen.quiet
    grid, unit = _grid(chosen, model, tokenizer, iv, pairs)
    table = sk.sweep(model, tokenizer, iv, pairs, m=grid, reduction=chosen.reduction, progress=bars)
    if chosen.out:
        paths.expanded(chosen.out).parent.mkdir(parents=True, exist_ok=True)
        table.to_csv(paths.expanded(chosen.out), index=False)
    means = table.drop(columns="pair").groupby("m", sort=False).mean().reset_index()
    if unit is None:
        return {"means over pairs": means}
    return {"means over pairs": means.assign(relative=chosen.relative), "matching strength": unit}


def _choose(chosen: Namespace) -> dict[str, Any]:
    pairs = _pairs(chosen.pairs, chosen.columns)
    model, tokenizer, iv = _steered(chosen)
    bars = not chosen.quiet
    grid, _ = _grid(chosen, model, tokenizer, iv, pairs)
    if not any(grid):
        raise ValueError("m = 0 is the unsteered model: name a strength to compare with it")
    if chosen.by == "losses":
        grid = [0.0, *(m for m in grid if m)]
        table = sk.sweep(model, tokenizer, iv, pairs, m=grid, reduction=chosen.reduction, progress=bars)
        point = sk.operating_point(table, chosen.tolerance)
        return {"curves": point.table, "m": point.m, "reason": point.reason}
    found = sk.readable_strength(
        model,
        tokenizer,
        iv,
        pairs,
        m=grid,
        questions=chosen.questions,
        max_new_tokens=chosen.max_new_tokens,
        reduction=chosen.reduction,
        progress=bars,
    )
    texts = found.texts[found.texts["m"].isin([0.0, found.m])]
    asked = [pair.question for pair in pairs]
    read = [
        {"m": row.m, "question": asked[row.question], "answer": " ".join(row.text.split())}
        for row in texts.itertuples()
    ]
    return {
        "strengths": found.table,
        "answers": pd.DataFrame(read),
        "m": found.m,
        "matching strengths": found.m_relative,
        "reason": found.reason,
    }


def _grid(chosen: Namespace, model: Any, tokenizer: Any, iv: Any, pairs: Any) -> tuple[list[float], Any]:
    """The strengths that were asked for, and the matching strength where they are counted in it."""
    if chosen.m:
        return chosen.m, None
    if len(iv.terms) > 1:
        raise ValueError("a sum of several has no matching strength of its own: give strengths with --m.")
    unit = sk.matching_strength(model, tokenizer, iv, pairs, progress=not chosen.quiet)
    return [unit * share for share in chosen.relative], unit


def _generate(chosen: Namespace) -> list[dict[str, Any]]:
    questions = list(chosen.questions)
    if chosen.file:
        lines = paths.expanded(chosen.file).read_text(encoding="utf-8").splitlines()
        questions += [line for line in lines if line.strip()]
    if not questions:
        raise ValueError("no question is given: name some, or a file with --questions.")
    model, tokenizer, iv = _steered(chosen)
    rows = [(question, m) for question in questions for m in chosen.m]
    texts = sk.answers(
        model,
        tokenizer,
        [question for question, _ in rows],
        intervention=iv,
        m=[m for _, m in rows],
        max_new_tokens=chosen.max_new_tokens,
        progress=not chosen.quiet,
    )
    return [{"question": q, "m": m, "answer": text} for (q, m), text in zip(rows, texts, strict=True)]


def _export(chosen: Namespace) -> dict[str, Any]:
    model, tokenizer, iv = _steered(chosen)
    written = sk.export(iv, model, chosen.path, format=chosen.format, m=chosen.m, tokenizer=tokenizer)
    return {"written": str(written)}


_COMMANDS: dict[str, Any] = {
    "train": _train,
    "scan": _scan,
    "sweep": _sweep,
    "choose": _choose,
    "generate": _generate,
    "export": _export,
}


def _model(chosen: Namespace) -> Any:
    return sk.load_model(chosen.model, dtype=chosen.dtype, device=chosen.device, progress=not chosen.quiet)


def _steered(chosen: Namespace) -> Any:
    """Model, tokenizer, and a saved intervention or one of another tool's file."""
    path = paths.expanded(chosen.steering)
    if not path.exists():
        raise FileNotFoundError(f"there is no file or folder {path}.")
    model, tokenizer = _model(chosen)
    if (path / "intervention.safetensors").is_file():
        return model, tokenizer, sk.load_intervention(path, model)
    return model, tokenizer, sk.import_intervention(path, model)


def _pairs(name: str, columns: str) -> Any:
    """Pairs of a file, or of a task, whose split stands behind a colon."""
    names = columns.split(",")
    if len(names) != 3:
        raise ValueError(f"--columns names three, as question,positive,negative, not {columns!r}.")
    if paths.expanded(name).is_file():
        return sk.read_pairs(
            paths.expanded(name), **dict(zip(("question", "positive", "negative"), names, strict=True))
        )
    task, _, split = name.partition(":")
    if Path(task).suffix:
        raise FileNotFoundError(f"there is no file of pairs {name}.")
    return sk.load_pairs(task, split=split or "train")


def _setting(text: str) -> tuple[str, Any]:
    """One of `train`'s settings: a number where it is one."""
    name, _, value = text.partition("=")
    if not value:
        raise ValueError(f"--set takes NAME=VALUE, as lr=0.02, not {text!r}.")
    for kind in (int, float):
        try:
            return name, kind(value)
        except ValueError:
            continue
    return name, value
