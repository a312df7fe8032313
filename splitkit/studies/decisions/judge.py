"""From the kept tables of a profile to its verdicts: all twelve claims, of each model and task family.

A claim that the tables have nothing on is undecided, and its row says why: there is one of every claim.
"""

from collections.abc import Callable, Iterator, Mapping

import pandas as pd

from splitkit.runs.kept_tables import kept
from splitkit.runs.profiles import Profile
from splitkit.studies.decisions.curve_claims import decide_c1, decide_c2, decide_c3, decide_c4
from splitkit.studies.decisions.fit_claims import decide_c5, decide_c6, decide_c7, decide_c8
from splitkit.studies.decisions.grading import Judged, NothingToJudge, together, undecided
from splitkit.studies.decisions.manifold_claims import decide_c9
from splitkit.studies.decisions.rules import METRICS, METRICS_WITHOUT_JUDGE, RULES, Metric
from splitkit.studies.decisions.score_claims import ACCURACY, decide_c10, decide_c11, decide_c12, unit_scores
from splitkit.studies.fit_quality import window_fits
from splitkit.studies.frames import require
from splitkit.studies.manifold.left_out import form_left_out
from splitkit.studies.manifold.moves import manifold_moves
from splitkit.studies.manifold.tables import geometry
from splitkit.studies.mean_curves import mean_curves
from splitkit.studies.null_curves import SMOOTH, random_curves
from splitkit.studies.scores import complete, score_base
from splitkit.studies.unified_view import unified_views
from splitkit.tasks import task_family

Tables = Mapping[str, pd.DataFrame]
"""A profile's kept tables by name."""
Metrics = Mapping[str, Metric]

READ: dict[str, tuple[str, ...]] = {
    "C1": ("unified_view",),
    **dict.fromkeys(("C2", "C3", "C4"), ("curves",)),
    **dict.fromkeys(("C5", "C6"), ("window_fits", "curves", "random_curves")),
    **dict.fromkeys(("C7", "C8"), ("window_fits", "curves")),
    "C9": ("form_left_out", "manifold_moves", "utility_angle"),
    **dict.fromkeys(("C10", "C11", "C12"), ("answer_scores",)),
}
"""The tables that each claim is judged by."""
ONCE = {"C1": "all", "C8": "all", "C10": "all", "C11": "psychopathy", "C12": "all"}
"""The claims with one verdict a model, not one for each task family, and what stands in its place."""

_DECIDE: dict[str, Callable[[Tables, Metrics], Judged]] = {
    "C1": lambda tables, _: decide_c1(_identities(tables["unified_view"])),
    "C2": lambda tables, _: decide_c2(tables["curves"]),
    "C3": lambda tables, _: decide_c3(tables["curves"]),
    "C4": lambda tables, _: decide_c4(tables["curves"]),
    "C5": lambda tables, _: decide_c5(tables["window_fits"], tables["curves"], _smooth(tables)),
    "C6": lambda tables, _: decide_c6(tables["window_fits"], tables["curves"], _smooth(tables)),
    "C7": lambda tables, _: decide_c7(tables["window_fits"], tables["curves"]),
    "C8": lambda tables, _: decide_c8(tables["window_fits"], tables["curves"]),
    "C9": lambda tables, _: decide_c9(*(tables[name] for name in READ["C9"])),
    "C10": lambda tables, metrics: decide_c10(_units(tables, metrics), metrics),
    "C11": lambda tables, metrics: decide_c11(_units(tables, metrics), metrics[ACCURACY]),
    "C12": lambda tables, metrics: decide_c12(_units(tables, metrics), metrics),
}


@kept(
    *("verdicts", "verdict_grades", "verdict_tests"),
    tolerance=0.01,
    digits=3,
    of="tables",
    pools=["curves", "window_fits", "answer_scores", "manifold_distance"],
)
def verdicts(profile: Profile, jobs: int = 2) -> dict[str, pd.DataFrame]:
    """The tables of `Judged` for a profile, by the rules of `rules`, from its kept tables (`READ`)."""
    tables: dict[str, pd.DataFrame] = {}
    for study in (
        *(unified_views, mean_curves, window_fits, random_curves),
        *(form_left_out, manifold_moves, geometry, score_base),
    ):
        tables |= study(profile, jobs)
    judged = judge(tables, profile)
    return {"verdicts": judged.verdicts, "verdict_grades": judged.grades, "verdict_tests": judged.tests}


def judge(tables: Tables, profile: Profile) -> Judged:
    """Verdicts on every claim for every model and task family of a profile, sorted by these.

    `tables` are those of `READ`. Of a profile without a judge the metrics are `METRICS_WITHOUT_JUDGE`.
    ValueError for a missing column.
    """
    metrics = METRICS if profile.judge else METRICS_WITHOUT_JUDGE
    found = []
    for decide in _DECIDE.values():
        try:
            found.append(decide(tables, metrics))
        except NothingToJudge:
            continue
    there = {key for one in found for key in one.verdicts[["claim", "model", "task"]].itertuples(False, None)}
    for claim, model, task in asked(profile):
        if (claim, model, task) not in there:
            why = f"nothing to judge in {', '.join(READ[claim])}"
            if (model, task) in profile.without:
                why = f"not asked: profile {profile.name} has no {task} of this model"
            found.append(undecided(claim, model, task, why))
    every = together(found)
    return Judged(*map(_sorted, (every.verdicts, every.grades, every.tests)))


def asked(profile: Profile) -> Iterator[tuple[str, str, str]]:
    """Yield every claim with every model and task family, or the word of `ONCE`."""
    families = list(dict.fromkeys(map(task_family, profile.tasks)))
    for claim in RULES:
        for model in profile.models:
            for task in [ONCE[claim]] if claim in ONCE else families:
                yield claim, model, task


def _sorted(table: pd.DataFrame) -> pd.DataFrame:
    """By claim, model and task, a claim itself before what stands beside it."""
    keys = [table["claim"].str[1:].astype(int), table["model"], table["task"], table["part"] != "claim"]
    order = pd.concat(keys, axis=1).sort_values([key.name for key in keys], kind="stable").index
    return table.loc[order].reset_index(drop=True)


def _identities(view: pd.DataFrame) -> pd.DataFrame:
    """The comparisons of `unified_view` that have to be equal."""
    require(view, "model", "form", "compared_with", "deviation")
    return view[view["compared_with"] == "rewritten"]


def _smooth(tables: Tables) -> pd.DataFrame:
    """The random curves that have the measured length."""
    table = tables["random_curves"]
    return table[table["shape"] == SMOOTH]


def _units(tables: Tables, metrics: Metrics) -> pd.DataFrame:
    return unit_scores(complete(tables["answer_scores"]), metrics)
