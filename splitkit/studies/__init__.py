"""This paper's experiments, tidy tables out; its claims with their bars, and the verdicts on them.

Imports everything but `plots` and the commands.
"""

from collections.abc import Iterator
from pkgutil import resolve_name
from typing import TYPE_CHECKING

from splitkit.runs.profiles import TIERS

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
    "fit_quality:usable_fits",
    "rival_curves:rivalry",
    "null_curves:null_fits",
    "null_curves:random_curves",
)
"""Every function under `kept`, as module:function, in the order in which their tables are made.

Other tables are written where they are asked for: `unified_view` and `unified_view_change` by `unified_view`,
`shapes` by `mean_curves`, `verdicts` by `verdicts`, `search` by `runs.search`, `learning_curves` by
`runs.learning_curves`, which comes before the search.
"""

WITHOUT_JUDGE = ("real.layer_choice:layer_scan", "real.text_scores:text_scores")
"""The functions under `kept` that only profiles without a judge have, after those of `STUDIES`."""

OF_TIERS = (
    "manifold.left_out:form_left_out",
    "manifold.moves:manifold_moves",
    "fit_quality:usable_fits",
    "null_curves:random_curves",
)
"""Those of `STUDIES` that the profiles of `runs.profiles.TIERS` alone have."""

NOT_OF_TIERS = ("few_pairs:few_pairs", "null_curves:null_fits")
"""Those that they have not: fewer pairs are in their training, and their random curves are measured ones."""


def studies(profile: "Profile | None" = None) -> "Iterator[Study]":
    """The functions that `STUDIES` names, all or a profile's own; each is imported when its turn comes."""
    left_out = () if profile is None else NOT_OF_TIERS if profile.name in TIERS else OF_TIERS
    own = WITHOUT_JUDGE if profile is not None and not profile.judge else ()
    names = [name for name in (*STUDIES, *own) if name not in left_out]
    yield from (resolve_name(f"splitkit.studies.{name}") for name in names)
