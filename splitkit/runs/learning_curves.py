"""How many pairs of a concept leave room to compare: validation scores of AxBench over the number of pairs.

`python -m splitkit.runs.learning_curves --profile tiny` trains every objective on 2 to 64 pairs, for
equally many steps with the official settings (trial 0 of the search, which comes after this choice), and
writes `learning_curves.csv` beside the profile's other tables; `--model` and `--form` narrow it, and parts
merge. The number of pairs of the record is then chosen by `RULE`, which stood here before these numbers.

Only validation questions are read. All ten concepts of the made world are in its record; the three that are
taken here are those whose validation questions the search reads too, so that the other seven stay unseen by
every choice.
"""

import argparse
import sys
from collections.abc import Collection, Sequence
from itertools import product

import pandas as pd

from splitkit.runs import results
from splitkit.runs.engines import cores
from splitkit.runs.profiles import Profile, get_profile
from splitkit.runs.search import merged, recorded, trial_cell
from splitkit.runs.search_space import FORMS, OWN, SEEDS, search_tasks, start
from splitkit.runs.trial_scores import scored
from splitkit.steering.pairs import PAPER
from splitkit.storage import paths
from splitkit.tasks import FAMILIES

FAMILY = "axbench"
N_PAIRS = (2, 4, 8, 16, 64)
FLOOR, CEILING = 0.25, 0.9
"""Shares of the highest score between which the best objective can be compared with the others."""
RANGES = {"floor": (0.15, 0.25, 0.35), "ceiling": (0.85, 0.9, 0.95)}
"""Values of the two for which the choice is made again, beside it."""

RULE = (
    "A model and form is open at a number of pairs if the mean score over concepts of its best objective is "
    f"at least {FLOOR:.0%} and at most {CEILING:.0%} of the highest score. One number of pairs is taken for "
    "all models, forms and objectives: the one at which most are open; of equal ones the largest, which is "
    "nearest to the paper's 64. Whether objectives differ there is not asked: the record is to find that out."
)
_KEYS = ["model", "form", "objective", "n_pairs", "task", "seed"]


def learning_curves(
    profile: Profile,
    models: Collection[str] = (),
    forms: Collection[str] = (),
    jobs: int = 2,
    progress: bool = True,
) -> pd.DataFrame:
    """Validation score at the best strength of every objective, concept and number of pairs; all for ().

    One row per run: model, form, objective, n_pairs, task, seed, score (0-2), m_relative, made_of, epochs,
    batch_size. Written to the profile's `learning_curves.csv`, whose other models and forms stay. ValueError
    for a profile of the paper's data.
    """
    if any(task.startswith(PAPER) for task in profile.tasks):
        raise ValueError(
            f"profile {profile.name} has the paper's concepts, of which no pairs can be held out."
        )
    table = recorded(profile, "learning_curves")
    for model, form in product(models or profile.models, forms or FORMS):
        rows, cells = [], []
        # task by task, so that those of one share what they record
        tasks = dict.fromkeys(search_tasks(profile, FAMILY))
        for task, n_pairs, objective in product(tasks, N_PAIRS, OWN):
            chosen = start(profile, model, form, objective, FAMILY, n_pairs)
            cells.append(trial_cell(profile, model, task, form, objective, SEEDS[0], chosen, n_pairs))
            head = dict(zip(_KEYS, (model, form, objective, n_pairs, task, SEEDS[0]), strict=True))
            rows.append((head, {name: chosen[name] for name in ("epochs", "batch_size")}))
        found = scored(cells, profile, table, jobs, progress)
        heads, settings = (pd.DataFrame([row[i] for row in rows]) for i in (0, 1))
        table = merged(table, heads.join(found).join(settings), ["model", "form"], _KEYS)
        results.write_table(table, "learning_curves", profile, tolerance=0.0)
    return results.read_table("learning_curves", profile)


def open_panels(table: pd.DataFrame, floor: float = FLOOR, ceiling: float = CEILING) -> pd.DataFrame:
    """Each model, form and number of pairs by `RULE`: best, its objective `of`, spread, open.

    best: the highest mean over concepts; spread: that minus the lowest objective's, in the score's unit.
    """
    means = table.groupby(["model", "form", "n_pairs", "objective"])["score"].mean().unstack("objective")
    best, top = means.max(axis=1), FAMILIES[FAMILY].top
    found = pd.DataFrame({"best": best, "of": means.idxmax(axis=1), "spread": best - means.min(axis=1)})
    return found.assign(open=best.between(floor * top, ceiling * top)).reset_index()


def chosen_pairs(table: pd.DataFrame, floor: float = FLOOR, ceiling: float = CEILING) -> int:
    """The number of pairs by `RULE`. ValueError where nothing is open at any number."""
    counts = open_panels(table, floor, ceiling).groupby("n_pairs")["open"].sum()
    if not counts.max():
        raise ValueError(
            "at no number of pairs is a model and form off floor and ceiling: the rule is silent"
        )
    return int(counts[counts == counts.max()].index.max())


def choices(table: pd.DataFrame) -> pd.DataFrame:
    """The choice for each floor (rows) and ceiling (columns) of `RANGES`; 0 where the rule is silent."""

    def choice(floor: float, ceiling: float) -> int:
        there = open_panels(table, floor, ceiling)["open"].any()
        return chosen_pairs(table, floor, ceiling) if there else 0

    found = [[choice(floor, ceiling) for ceiling in RANGES["ceiling"]] for floor in RANGES["floor"]]
    rows, columns = (pd.Index(values, name=name) for name, values in RANGES.items())
    return pd.DataFrame(found, rows, columns)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m splitkit.runs.learning_curves", description=__doc__)
    parser.add_argument("--profile", default="tiny", choices=["tiny"])
    parser.add_argument("--model", nargs="+", default=())
    parser.add_argument("--form", nargs="+", default=(), choices=FORMS)
    parser.add_argument("--jobs", type=int, default=cores(), help="processes side by side, one thread each")
    chosen = parser.parse_args(arguments)
    paths.require_clone("The committed settings")
    profile = get_profile(chosen.profile)
    if unknown := set(chosen.model) - set(profile.models):
        parser.error(f"profile {profile.name} has no model {unknown.pop()!r}: {', '.join(profile.models)}.")
    table = learning_curves(profile, chosen.model, chosen.form, chosen.jobs)
    sys.stdout.write(f"{len(table)} runs in {profile.results / 'learning_curves.csv'}\n{RULE}\n")
    sys.stdout.write(f"{open_panels(table).round(2).to_string(index=False)}\n{choices(table)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
