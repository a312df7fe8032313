"""C9 for a profile: its verdict from the tables of its geometry, forms left out, and moves."""

from splitkit.runs.profiles import Profile
from splitkit.studies.decisions.grading import Judged
from splitkit.studies.decisions.manifold_claims import decide_c9
from splitkit.studies.manifold.left_out import form_left_out
from splitkit.studies.manifold.moves import manifold_moves
from splitkit.studies.manifold.tables import geometry


def judge_c9(profile: Profile, jobs: int = 2) -> Judged:
    """`decide_c9` of a profile's three tables, which are read, or made where they are not there."""
    return decide_c9(
        form_left_out(profile, jobs)["form_left_out"],
        manifold_moves(profile, jobs)["manifold_moves"],
        geometry(profile, jobs)["utility_angle"],
    )
