"""This paper's experiments, tidy tables out; its claims with their bars, and the verdicts on them.

Imports everything but `plots` and the commands.
"""

from collections.abc import Iterator
from pkgutil import resolve_name
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from splitkit.runs.kept_tables import Study
    from splitkit.runs.profiles import Profile

STUDIES = (
    "mean_curves:mean_curves",
    "scores:score_base",
    "scores:main_tables",
    "few_pairs:few_pairs",
    "layers:layer_table",
    "layers:yes_no_table",
    "ablation:ablate",
    "samples:samples",
    "manifold.tables:geometry",
    "manifold.left_out:form_left_out",
    "manifold.moves:manifold_moves",
    "loss_reduction:reductions",
    "fits:cell_fits",
    "fits:family_fits",
    "joint_fit:joint_fits",
    "fit_quality:fit_quality",
    "fit_quality:window_fits",
    "rival_curves:rivalry",
    "null_curves:null_fits",
    "null_curves:random_curves",
    "unified_view:unified_views",
    "decisions.judge:verdicts",
)
"""Every function under `kept`, as module:function, in the order in which their tables are made.

Other tables are written where they are asked for: of the embedded profile `unified_view`,
`unified_view_change` and `verdicts`; `shapes` by `mean_curves`, `search` by `runs.search`, `learning_curves`
by `runs.learning_curves`, which comes before the search.
"""

WITHOUT_JUDGE = ("real.layer_choice:layer_scan", "real.text_scores:text_scores")
"""The functions under `kept` that only profiles without a judge have, before the verdicts."""

NOT_WITHOUT_JUDGE = (
    "scores:main_tables",
    "layers:layer_table",
    "layers:yes_no_table",
    "ablation:ablate",
    "samples:samples",
)
"""Those of `STUDIES` that they have not.

Tables 3 and 4 are of judged scores; the layers are scanned, the two readings of yes and no and the answers
are in `text_scores` and `text_answers`; the ablation would train an hour's cells more for no claim.
"""

OF_TIERS = (
    "manifold.left_out:form_left_out",
    "manifold.moves:manifold_moves",
    "fit_quality:window_fits",
    "null_curves:random_curves",
    "unified_view:unified_views",
    "decisions.judge:verdicts",
)
"""Those of `STUDIES` that the profiles of `runs.profiles.TIERS`, and their rehearsals, alone have."""

NOT_OF_TIERS = ("few_pairs:few_pairs", "null_curves:null_fits")
"""Those that they have not: fewer pairs are in their training, and their random curves are measured ones."""


def studies(profile: "Profile | None" = None) -> "Iterator[Study]":
    """The functions that `STUDIES` names, all or a profile's own; each is imported when its turn comes."""
    names, left_out = list(STUDIES), () if profile is None else NOT_OF_TIERS if profile.tier else OF_TIERS
    if profile is not None and not profile.judge:
        names[-1:-1], left_out = WITHOUT_JUDGE, (*left_out, *NOT_WITHOUT_JUDGE)
    yield from (resolve_name(f"splitkit.studies.{name}") for name in names if name not in left_out)
