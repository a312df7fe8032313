"""The search for training settings by validation score: equally many trials for every objective.

`python -m splitkit.runs.search --profile tiny` runs what is missing of a profile's trials (`search_space`),
writes every run to the profile's `search.csv` and the best of each budget to its table of settings.
`--model`, `--family`, `--form` and `--objective` narrow it; parts merge into the same two tables, and a run
that is in `search.csv` with the same settings, data and code is not run again.
"""

import argparse
import sys
from collections.abc import Collection, Mapping, Sequence
from itertools import groupby, product
from typing import Any

import pandas as pd

from splitkit.runs import results
from splitkit.runs.engines import cores
from splitkit.runs.profiles import Cell, Profile, get_profile
from splitkit.runs.search_space import (
    FORMS,
    KEYS,
    OWN,
    PLANS,
    SEEDS,
    families,
    plan_of,
    search_tasks,
    space,
    trained_on,
    trials,
    with_other_families,
)
from splitkit.runs.trial_scores import scored
from splitkit.storage import paths
from splitkit.storage.files import write_whole
from splitkit.tasks import task_family

FINALISTS = 2
"""The trials that are best with the first seed; they alone are run with the others."""

Budget = tuple[str, str, str, str]
"""Model, task family, form and objective."""
_RUN = [*KEYS, "trial", "seed"]
_FOUND = [*_RUN, "task", "score", "m_relative", "space", "seen", "made_of"]


def budgets(profile: Profile, **only: str | Collection[str] | None) -> list[Budget]:
    """A profile's budgets, or those of some models, families, forms and objectives: `KEYS` name the parts.

    A profile has no budget where it has no cells. ValueError for a part that there is not, with those there
    are.
    """
    there = dict(zip(KEYS, (profile.models, families(profile), FORMS, tuple(OWN)), strict=True))
    for name, wanted in only.items():
        chosen = [wanted] if isinstance(wanted, str) else list(wanted or there[name])
        if unknown := [one for one in chosen if one not in there[name]]:
            raise ValueError(
                f"profile {profile.name} has no {name} {unknown[0]!r}: {', '.join(there[name])}."
            )
        there[name] = [one for one in there[name] if one in chosen]
    cells = {(cell.model, task_family(cell.task), cell.form, cell.objective) for cell in profile.cells()}
    models, own, forms, objectives = there.values()
    return [budget for budget in product(models, own, forms, objectives) if budget in cells]


def search(profile: Profile, wanted: Sequence[Budget], jobs: int = 2, progress: bool = True) -> pd.DataFrame:
    """Every trial of the wanted budgets with the first seed, then the finalists with the others.

    One row per run: `KEYS`, trial, seed, task, score, m_relative, space (number of settings there are), seen
    (the share of them that is tried), made_of (see `trial_scores`) and the settings. Written to the profile's
    `search.csv`, whose other rows stay, form by form, so that a killed run loses little.
    """
    plan, table = plan_of(profile), recorded(profile)
    for _, group in groupby(wanted, key=lambda key: key[:3]):
        own = list(group)
        first = [(key, trial, 0) for key in own for trial in range(plan.trials)]
        rows = run(profile, first, table, jobs, progress)
        finals = [
            (key, trial, number)
            for number in range(1, plan.finals)
            for key, chosen in finalists(rows).items()
            for trial in chosen
        ]
        rows = pd.concat([rows, run(profile, finals, table, jobs, progress)], ignore_index=True)
        table = merged(table, rows, KEYS, _RUN)
        # whichever part came first
        table = table[[*_FOUND, *sorted(set(table) - set(_FOUND))]]
        results.write_table(table, "search", profile, tolerance=0.0)
        _keep_best(profile, table)
    return table


def _keep_best(profile: Profile, table: pd.DataFrame) -> None:
    """Write the best settings of each budget of the table; rows of others stay as they are."""
    there = pd.read_csv(profile.hparams) if profile.hparams.exists() else None
    chosen = merged(there, with_other_families(profile, best(table)), KEYS, KEYS)
    chosen = chosen[[*KEYS, *sorted(set(chosen) - set(KEYS))]]
    write_whole(profile.hparams, chosen.to_csv(index=False, lineterminator="\n"))


def recorded(profile: Profile, name: str = "search") -> pd.DataFrame | None:
    """A table of the profile, if it is there."""
    there = (profile.results / f"{name}.csv").exists()
    return results.read_table(name, profile) if there else None


def merged(
    old: pd.DataFrame | None, new: pd.DataFrame, part: Sequence[str], order: Sequence[str]
) -> pd.DataFrame:
    """`new`, and the rows of `old` on other values of the columns `part`, sorted by `order`."""
    if old is not None:
        kept = ~pd.MultiIndex.from_frame(old[list(part)]).isin(pd.MultiIndex.from_frame(new[list(part)]))
        new = pd.concat([old[kept], new], ignore_index=True)
    return new.sort_values(list(order), ignore_index=True)


def run(
    profile: Profile,
    runs: Sequence[tuple[Budget, int, int]],
    table: pd.DataFrame | None = None,
    jobs: int = 1,
    progress: bool = False,
) -> pd.DataFrame:
    """The row of each run, of a budget, the number of a trial and that of a seed; `table` has finished ones.

    A trial whose loss is not finite has a row without a score.
    """
    plans: dict[Budget, tuple[list[dict[str, Any]], int]] = {}
    for key in dict.fromkeys(key for key, *_ in runs):
        model, family, form, objective = key
        named = (profile, model, form, objective, family)
        plans[key] = trials(*named), len(space(*named))
    cells, rows = [], []
    for key, trial, number in runs:
        (model, family, form, objective), (tried, size) = key, plans[key]
        task = search_tasks(profile, family)[number]
        cells.append(trial_cell(profile, model, task, form, objective, SEEDS[number], tried[trial]))
        head = dict(zip(KEYS, key, strict=True)) | {"trial": trial, "seed": SEEDS[number], "task": task}
        rows.append(head | {"space": size, "seen": round(len(tried) / size, 4)} | tried[trial])
    return pd.DataFrame(rows).join(scored(cells, profile, table, jobs, progress))


def trial_cell(
    profile: Profile,
    model: str,
    task: str,
    form: str,
    objective: str,
    seed: int,
    chosen: Mapping[str, Any],
    n_train: int | None = None,
) -> Cell:
    """The cell of a trial: settings of its own, and `n_train` pairs or as many as trials train on."""
    variant: tuple[tuple[str, Any], ...] = (("hparams", tuple(sorted(chosen.items()))),)
    n = n_train or trained_on(profile, task)
    if n != profile.size("train", task):
        variant += (("n_train", n),)
    return Cell(model, task, form, objective, seed, variant)


def finalists(table: pd.DataFrame) -> dict[Budget, list[int]]:
    """The FINALISTS best trials of each budget by the first seed's score, of equal ones the earliest.

    ValueError names a budget in which no trial has a score.
    """
    found: dict[Budget, list[int]] = {}
    for key, rows in table[table["seed"] == SEEDS[0]].groupby(KEYS):
        ordered = rows.dropna(subset="score").sort_values(["score", "trial"], ascending=[False, True])
        if ordered.empty:
            raise ValueError(f"no trial has a score for {key}")
        found[key] = ordered["trial"].tolist()[:FINALISTS]
    return found


def final_scores(table: pd.DataFrame) -> pd.DataFrame:
    """The finalists' mean score over all seeds, NaN where a run has none: KEYS, trial, score; best first."""
    chosen = [(*key, trial) for key, of_key in finalists(table).items() for trial in of_key]
    means = table.groupby([*KEYS, "trial"])["score"].agg(lambda scores: scores.mean(skipna=False))
    # rounded, so that the order of a sum does not decide between equal means
    final = means.loc[chosen].round(9).reset_index()
    order = [*KEYS, "score", "trial"]
    return final.sort_values(order, ascending=[True] * len(KEYS) + [False, True], ignore_index=True)


def best(table: pd.DataFrame) -> pd.DataFrame:
    """The settings with the highest final score of each budget; of equal ones the earliest trial's.

    ValueError names a budget in which no finalist has a score with every seed.
    """
    scores = final_scores(table).dropna(subset="score").drop_duplicates(KEYS)
    if missing := sorted(set(finalists(table)) - set(map(tuple, scores[KEYS].to_numpy()))):
        raise ValueError(f"no finalist has a score with every seed for {missing[0]}")
    runs = table[table["seed"] == SEEDS[0]].drop(
        columns=["score", "m_relative", "seed", "task", "space", "seen", "made_of"], errors="ignore"
    )
    return scores.drop(columns="score").merge(runs, on=[*KEYS, "trial"]).drop(columns="trial")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m splitkit.runs.search", description=__doc__)
    parser.add_argument("--profile", default="tiny", choices=list(PLANS))
    for name in ("model", "family", "form", "objective"):
        parser.add_argument(f"--{name}", nargs="+", help=f"the search of these alone; all: no --{name}")
    parser.add_argument("--jobs", type=int, default=cores(), help="processes side by side, one thread each")
    chosen = parser.parse_args(arguments)
    paths.require_clone("The committed settings")
    profile = get_profile(chosen.profile)
    only = {"model": chosen.model, "task_family": chosen.family, "form": chosen.form}
    try:
        wanted = budgets(profile, **only, objective=chosen.objective)
    except ValueError as error:
        parser.error(str(error))
    table = search(profile, wanted, chosen.jobs)
    sys.stdout.write(
        f"{len(table)} runs in {profile.results / 'search.csv'}\n"
        f"the best of each budget is in {profile.hparams}\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
