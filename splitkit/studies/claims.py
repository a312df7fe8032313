"""The paper's claims, with the rules and bars by which they are decided here.

What makes the shape of one curve that of C2 or C3 has its bars in `curves.shapes`.
"""

from dataclasses import dataclass

GOOD_FIT = {"preference": 0.95, "utility": 0.97}
"""R² above which a fit of Eq. 15 and one of Eq. 17 is good."""
FAIR_FIT = 0.90
"""R² above which a fit made on train predicts a test curve (C8)."""
R2_SLACK = 0.01
"""Loss of R² from train to test that counts as none (C7): the last digit of the paper's tables."""
CHANCE = (43.0, 57.0)
"""Lowest and highest accuracy, in percent, of a model that knows no persona (C11)."""
BARELY = 0.25
"""Largest change by DPO that counts as barely moved, as a share of the best gain (C12)."""
MOVED = 0.1
"""Smallest best gain that C12 looks at, as a share of the metric's scale."""
CEILING = 0.01
"""Two means both this close to the scale's top, as a share of it, cannot be told apart there (C10)."""
MOST = 0.5
"""Share of the paired comparisons, those at the ceiling left out, of which SPLIT is to win more (C10)."""


@dataclass(frozen=True)
class Claim:
    """One thing that the paper says, and our rule for it: grades at or above `holds` and `in_part`."""

    id: str
    text: str
    where: str
    template: str
    holds: float
    in_part: float

    @property
    def rule(self) -> str:
        """The rule in words, with its bars."""
        return self.template.format(holds=self.holds, in_part=self.in_part)


CLAIMS: dict[str, Claim] = {
    claim.id: claim
    for claim in (
        Claim(
            "C1",
            "Three forms of steering are one affine update: each adds m dh",
            "Eq. 1-5, Table 1, Fig. 1",
            "largest |steered - rewritten weights| of any form, in float64, is below {holds:g}",
            holds=1e-10,
            in_part=1e-10,
        ),
        Claim(
            "C2",
            "Preference against m is linear, then bends, then settles",
            "Fig. 2, 4, 5",
            "share of cells whose preference is linear near 0 and settles: "
            "{holds:g} holds, {in_part:g} in part",
            holds=0.8,
            in_part=0.5,
        ),
        Claim(
            "C3",
            "Utility is highest near m = 0, falls on both sides, then settles",
            "Fig. 2, 4, 5",
            "share of cells whose utility peaks near 0, falls on both sides, settles: "
            "{holds:g} holds, {in_part:g} in part",
            holds=0.8,
            in_part=0.5,
        ),
        Claim(
            "C4",
            "All forms and objectives share that pattern",
            "Fig. 2, 4, 5",
            "lowest share, over the forms, of cells in which C2 and C3 both hold: "
            "{holds:g} holds, {in_part:g} in part",
            holds=0.8,
            in_part=0.5,
        ),
        Claim(
            "C5",
            "Eq. 15 fits preference: R² above 0.95 in most settings",
            "Table 2",
            "share of preference fits (no SPLIT, as in Table 2) with R² above "
            f"{GOOD_FIT['preference']}: {{holds:g}} holds, {{in_part:g}} in part",
            holds=0.5,
            in_part=0.25,
        ),
        Claim(
            "C6",
            "Eq. 17 fits utility: R² typically above 0.97",
            "Table 2",
            "median R² of utility fits (no SPLIT, as in Table 2): "
            "above {holds:.2f} holds, above {in_part:.2f} in part",
            holds=GOOD_FIT["utility"],
            in_part=0.90,
        ),
        Claim(
            "C7",
            "The fits are as good on test sets",
            "Table 6",
            f"of curves fitted well on train (R² above {GOOD_FIT['preference']} preference, "
            f"{GOOD_FIT['utility']} utility), share as good on test (above that bar, or at most {R2_SLACK} "
            "below train): {holds:g} holds, {in_part:g} in part",
            holds=0.8,
            in_part=0.5,
        ),
        Claim(
            "C8",
            "Curves fitted on train predict test, with some failures",
            "Table 7",
            f"share of train fits with R² above {FAIR_FIT:.2f} on test curves: "
            "more than {holds:g} holds, {in_part:g} in part",
            holds=0.5,
            in_part=0.25,
        ),
        Claim(
            "C9",
            "Utility falls because activations leave their manifold",
            "Sec. 4, Fig. 3",
            "weaker of two distances: R² of utility by one curve for all forms; {holds:g}, no less than for "
            "the length of the move, and dh as far from the utility gradient as random: holds; "
            "{in_part:g} in part",
            holds=0.8,
            in_part=0.5,
        ),
        Claim(
            "C10",
            "SPLIT beats SFT, RePS and DiffMean on most metrics",
            "Table 3",
            "share of (form, metric) pairs in which SPLIT's mean is above SFT's, RePS's and DiffMean's: more "
            "than {holds:g}, and better by the paired test in more than half of the comparisons, holds; more "
            "tests won than lost, in part; what is at the ceiling is left out",
            holds=0.5,
            in_part=0.0,
        ),
        Claim(
            "C11",
            "SPLIT brings psychopathy accuracy from 50 % to 98-100 %",
            "Table 3",
            "lowest psychopathy accuracy of SPLIT over the forms: {holds:g} or more, and "
            f"{CHANCE[0]:g} to {CHANCE[1]:g} unsteered, holds; {{in_part:g}} or more in one form, in part",
            holds=98.0,
            in_part=98.0,
        ),
        Claim(
            "C12",
            "DPO (BiPO) barely moves the open-ended tasks",
            "Table 4",
            f"share of (form, open-ended metric) pairs in which DPO changes the mean by at most {BARELY} of "
            "the best gain of SFT, RePS and SPLIT: all holds, {in_part:g} in part; gains below "
            f"{MOVED} of the scale are left out",
            holds=1.0,
            in_part=0.5,
        ),
    )
}
