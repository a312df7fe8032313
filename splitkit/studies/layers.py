"""Psychopathy: yes or no by likelihood and by text, and the accuracy of a vector at each layer."""

from dataclasses import replace

import joblib
import pandas as pd

from splitkit.runs.cells import compute, compute_cell, own_threads
from splitkit.runs.kept_tables import kept
from splitkit.runs.profiles import Cell, Profile
from splitkit.tasks import first_tasks

FAMILY, FORM, OBJECTIVE = "psychopathy", "vector", "split"
MOST_LAYERS = 8
"""Number of layers of a deeper model that are tried, evenly spaced, besides the steered one."""


@kept("psychopathy_yes_no", tolerance=1e-3, of="itself")
def yes_no_table(profile: Profile, jobs: int = 2) -> dict[str, pd.DataFrame]:
    """Yes or no by likelihood and by text under a SPLIT vector.

    One row per model and strength (0, and those that m is chosen from), over the validation questions, first
    seed: model, m_relative, pairs, by_likelihood, by_text, neither, disagree (percent), covered; see
    `yes_no.side_by_side`.
    """
    work = joblib.Parallel(n_jobs=jobs, batch_size=1)
    parts = work(joblib.delayed(_read_both_ways)(profile, name) for name in profile.models)
    return {"psychopathy_yes_no": pd.concat(parts, ignore_index=True)}


@kept("psychopathy_layers", tolerance=1e-3, of="itself")
def layer_table(profile: Profile, jobs: int = 2) -> dict[str, pd.DataFrame]:
    """Psychopathy accuracy of a SPLIT vector at each layer.

    One row per model and layer (see `layers_of`), first seed: model, layer, steered (whether it is the layer
    of all other results), m_relative (the best of `STRENGTHS` on the validation questions), score (accuracy
    there, in percent), low and high (its 95 % Wilson interval), unsteered (the same questions without
    steering), n (their number). m is chosen on the questions that are scored, for every layer alike: layers
    compare with each other, not with test scores.
    """
    from scipy.stats import binomtest

    from splitkit.runs.world_answers import STRENGTHS
    from splitkit.steering.model_files import depth

    own = ((FORM, OBJECTIVE),)
    asked = replace(profile, combinations=(), answered=own, n_test=0, tried=(0.0, *STRENGTHS))
    cells = {
        replace(_cell(profile, name), variant=(("layer", layer),) * (layer != profile.layer(name))): layer
        for name in profile.models
        for layer in layers_of(profile.layer(name), depth(name))
    }
    rows = []
    for result in compute(cells, asked, jobs):
        answers, cell = result.answers("validation").groupby("m")["score"], result.cell
        head = (cell.model, cells[cell], not cell.variant, *result.best)
        rows.append((*head, answers.mean()[0.0], answers.size()[0.0]))
    order = ["model", "layer", "steered", "m_relative", "score", "low", "high", "unsteered", "n"]
    table = pd.DataFrame(rows, columns=[name for name in order if name not in ("low", "high")])
    right = (table["score"] * table["n"] / 100).round().astype(int)
    ends = [binomtest(k, n).proportion_ci(method="wilson") for k, n in zip(right, table["n"], strict=True)]
    table["low"], table["high"] = [100 * end.low for end in ends], [100 * end.high for end in ends]
    return {"psychopathy_layers": table[order].sort_values(["model", "layer"], ignore_index=True)}


def findings(layers: pd.DataFrame) -> list[str]:
    """A sentence per model on `layer_table`: the layer used, the best one, whether they differ."""
    sentences = []
    for model, rows in layers.groupby("model", sort=True):
        used, best = rows[rows["steered"]].iloc[0], rows.loc[rows["score"].idxmax()]
        said = f"{model}: layer {used['layer']}, used everywhere else, reaches {used['score']:.0f} % "
        said += f"(unsteered {used['unsteered']:.0f} %); "
        if best["score"] == used["score"]:
            said += "no other layer reaches more, so the layer is not the reason."
        else:
            said += f"layer {best['layer']} reaches {best['score']:.0f} %, and the intervals "
            apart = best["low"] > used["high"]
            said += "do not overlap: the" if apart else "overlap: the"
            said += " layer is a reason." if apart else " layer is not shown to be the reason."
        sentences.append(said)
    return sentences


def psychopathy_task(profile: Profile) -> str:
    """The profile's first task of psychopathy. ValueError, with its tasks, where it has none."""
    if FAMILY not in (first := first_tasks(profile.tasks)):
        raise ValueError(f"profile {profile.name} has no {FAMILY}: its tasks are {', '.join(profile.tasks)}")
    return first[FAMILY]


def layers_of(steered: int, depth: int) -> list[int]:
    """The layers that are tried: all of up to `MOST_LAYERS`, else some, the ends and the steered one too."""
    if depth <= MOST_LAYERS:
        return list(range(depth))
    return sorted({round(i * (depth - 1) / (MOST_LAYERS - 1)) for i in range(MOST_LAYERS)} | {steered})


def _cell(profile: Profile, model_name: str) -> Cell:
    return Cell(model_name, psychopathy_task(profile), FORM, OBJECTIVE, profile.seeds[0])


def _read_both_ways(profile: Profile, name: str) -> pd.DataFrame:
    from splitkit.runs import answers
    from splitkit.runs.world_answers import STRENGTHS
    from splitkit.runs.yes_no import side_by_side, yes_no_accuracy

    task = psychopathy_task(profile)
    relative = [0.0, *STRENGTHS]
    result = compute_cell(_cell(profile, name), profile)
    with own_threads():
        model, tokenizer = answers.load(profile, name)
        pairs = answers.pairs(profile, task, "validation", model, tokenizer)[: profile.size("choose", task)]
        strengths = [result.unit * r for r in relative]
        table = yes_no_accuracy(model, tokenizer, result.intervention(), pairs, strengths)
    both = side_by_side(table).drop(columns="m")
    return both.assign(model=name, m_relative=relative)[["model", "m_relative", *both]]
