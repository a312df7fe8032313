"""Few pairs: the same comparison where there is room at the top, from two training pairs instead of 64."""

from dataclasses import replace

import pandas as pd
from scipy.stats import ttest_rel

from splitkit.runs.cells import compute_cells
from splitkit.runs.kept_tables import kept
from splitkit.runs.profiles import AXBENCH, Profile
from splitkit.runs.search_space import SEEDS
from splitkit.tasks import task_family

N_PAIRS = 2
EPOCHS = 32
"""Number of epochs, for as many steps as 64 pairs have in four epochs of eight pairs a step."""
CONCEPTS = 5
FORMS = ("lora", "vector")
OBJECTIVES = ("sft", "reps", "dpo", "split")


def few_pairs_profile(profile: Profile) -> Profile:
    """`profile` with two training pairs for each of five concepts, trained for as many steps as with 64.

    The concepts are the first five that no settings were searched on (where there are none, the first five);
    settings are those recorded for 64 pairs. ValueError when the profile has no AxBench task or scores none
    of the objectives.
    """
    concepts = [task for task in profile.tasks if task_family(task) == "axbench"]
    unseen = [task for task in concepts if task not in AXBENCH[: len(SEEDS)]] or concepts
    kinds = tuple(kind for kind in profile.answered if kind[0] in FORMS and kind[1] in OBJECTIVES)
    if not unseen or not kinds:
        raise ValueError(f"profile {profile.name} has no concept or no scored objective to compare")
    return replace(
        profile,
        tasks=tuple(unseen[:CONCEPTS]),
        combinations=(),
        answered=kinds,
        seeds=profile.seeds[:1],
        n_train=N_PAIRS,
        overrides=(profile.overrides if profile.small else {**profile.overrides, "epochs": EPOCHS})
        | {"batch_size": N_PAIRS},
    )


@kept("few_pairs", tolerance=1e-3, of="itself")
def few_pairs(profile: Profile, jobs: int = 2) -> dict[str, pd.DataFrame]:
    """Scored test answers of every form and objective trained on two pairs: `answer_scores`, completed."""
    from splitkit.studies.scores import complete, tables

    cells = compute_cells(few_pairs_profile(profile), jobs)
    return {"few_pairs": complete(tables(cells, jobs)["answer_scores"])}


def concept_tests(answer_scores: pd.DataFrame) -> pd.DataFrame:
    """SPLIT minus each rival by a paired t test on the concepts' mean scores.

    One row per (model, form, rival): concepts, difference (of the means over concepts), p (two-sided, NaN
    with fewer than two concepts that both have).
    """
    means = answer_scores.groupby(["model", "form", "task", "objective"])["score"].mean().unstack("objective")
    rows = []
    for (model, form), part in means.groupby(["model", "form"]):
        for rival in [name for name in OBJECTIVES if name in part and name != "split"]:
            both = part.reindex(columns=["split", rival]).dropna()
            if both.empty:
                continue
            p = float(ttest_rel(both["split"], both[rival]).pvalue) if len(both) > 1 else float("nan")
            difference = float((both["split"] - both[rival]).mean())
            rows.append((model, form, rival, len(both), difference, p))
    return pd.DataFrame(rows, columns=["model", "form", "rival", "concepts", "difference", "p"])
