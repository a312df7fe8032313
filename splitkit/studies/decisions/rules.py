"""The rules by which the paper's claims are judged, each with its reason, written before the numbers.

**Four grades.** A claim *holds*, holds *in part*, *does not hold*, or is *undecided*. A number is compared
with two bars: it holds from the first on, in part from the second on. The claim is undecided whatever the
number says where

1. too few units are off floor and ceiling (fewer than 3, or 5 where the rule is a test), or
2. the 95 % interval of the number reaches into another grade, or
3. the grade is another one at the low or the high end of a constant's range, the others at their value.

A constant that leaves nothing to judge at an end of its range has not flipped the grade: the table of grades
by constant (`verdict_grades`) shows it as undecided there.

**Units.** A number over cells repeats with the training run: forms and objectives are the paper's own and
stand fixed, seeds are drawn. Where a task family has at least 3 concepts (AxBench), its cells come in
clusters, one per concept, because all that is trained for a concept shares its texts.

**Intervals.** k of n cells: Wilson's, with the effective number of cells n / deff where they are clustered
(Korn and Graubard 1998; deff from the variance between concepts, at least 1, at most the cells per concept;
1 where all cells agree). Medians and ratios: 2.5 and 97.5 % of a bootstrap that draws units anew. Means of
units and their differences: Student's, paired or Welch's. Tests are exact permutation tests.

**Controls.** Random directions, and natural ones (differences of unrelated activations), run through the same
grid; random smooth curves have the correlation length of the measured ones. They do not change a grade:
they say what it is worth. A claim that holds for adding anything says nothing about steering. The
excess is of trained vectors over control vectors, form against the same form, and over random curves of all
cells, with Newcombe's interval. It is "more" when the interval lies above 0, "no more" when it lies
below `EXCESS`, else it cannot be told.

**Usable window.** The strengths at which mean utility has lost at most a nat per token: where losses are
sums over an answer, a nat times the mean number of its tokens. Where text is dead a curve is
easy to fit, so that beside C5 to C8 stands the same number with each R² taken over this window alone, of the
same fits over the whole grid. It does not grade.

**The paper's objectives.** C2, C3 and C4 are about every trained cell. Tables 2, 6 and 7 (C5 to C8) have
DiffMean, SFT and RePS, and so have our numbers.

**What was known.** The record of the profile `embedded`, and an outside review of it, which found its rules
for C2, C4, C9, C10 and C11 wrong: these rules answer that review. No table of the profiles `tiny` and
`small`, which they judge, existed when they were written, and no rule was tried on an older table before.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

GRADES = ("holds", "in part", "does not hold", "undecided")
FORMS = ("local_weight", "lora", "vector")
"""The paper's forms: its claims speak of these, whatever others are in a table."""
IN_TABLES_OF_FITS = ("diffmean", "sft", "reps")
"""Objectives of the paper's Tables 2, 6 and 7."""
RIVALS = {"local_weight": ("sft", "reps"), "lora": ("sft", "reps"), "vector": ("diffmean", "sft", "reps")}
"""Objectives that SPLIT is compared with, by form, as in Table 3."""
FEWEST_UNITS, FEWEST_TESTED = 3, 5
"""Least number of units of a number, and of each side of a test."""
FEWEST_STRENGTHS = 5
"""Least number of strengths that a straight part, or one side of a peak, is judged by."""
FEWEST_CONCEPTS = 3
"""Least number of concepts that are clusters: fewer say nothing about other concepts."""
EXCESS = 0.2
"""Smallest excess of a share over the controls' that is worth naming: one cell in five."""


@dataclass(frozen=True)
class Constant:
    """A number that a rule needs and the paper does not give: its value, its range, the reason for both."""

    name: str
    value: float
    low: float
    high: float
    reason: str

    def __post_init__(self) -> None:
        if not self.low <= self.value <= self.high:
            raise ValueError(f"{self.name}: {self.value} is not within {self.low} to {self.high}")


SMALL = Constant(
    "small",
    0.25,
    0.15,
    0.35,
    "largest push that is small m: a stream moved by a quarter of its length turns by less than 15 "
    "degrees (9 to 21 over the range), so that the next norm is nearly linear in it",
)
STRAIGHT = Constant(
    "straight",
    0.10,
    0.05,
    0.20,
    "largest deviation from the least-squares line in m over the small part, as a share of the curve's range "
    "over the whole grid: what an eye does not see in Fig. 2",
)
CARRIED = Constant(
    "carried",
    0.5,
    0.3,
    0.7,
    "least R² of that line: more of what the curve does in the small part is the line than not. Without it a "
    "curve that is flat or bends back near 0 would pass, whenever it moves far beyond",
)
SETTLED = Constant(
    "settled",
    0.10,
    0.05,
    0.20,
    "largest change of the last doubling of |m| on either side, as a share of that side's range; a straight "
    "line changes by 0.5, a logarithm over 64 strengths by 0.15",
)
FALLS = Constant(
    "falls",
    0.8,
    0.7,
    0.9,
    "least rank correlation, its sign reversed, of |m| and utility from the peak outwards: a fall with a few "
    "steps the other way",
)
NOISE = Constant(
    "noise",
    3.0,
    2.0,
    5.0,
    "a curve that moves over the grid by no more than so many standard errors (median over the grid) is on "
    "the floor: it has no shape, and no fit of it means anything",
)
REACH = Constant(
    "reach",
    1.0,
    0.5,
    2.0,
    "largest push over which curves are compared: beyond one length of the stream they are flat or dead, and "
    "two long flat ends make any two curves alike",
)
GOOD_PREFERENCE = Constant(
    "good_preference", 0.95, 0.945, 0.955, "the paper's bar of R² for Eq. 15; it prints two digits"
)
GOOD_UTILITY = Constant(
    "good_utility", 0.97, 0.965, 0.975, "the paper's bar of R² for Eq. 17; it prints two digits"
)
SLACK = Constant(
    "slack", 0.01, 0.005, 0.02, "loss of R² from train to test that counts as none: the paper's last digit"
)
FAIR = Constant(
    "fair",
    0.90,
    0.85,
    0.95,
    "R² above which a fit made on train predicts the test curve: errors a third "
    "of the curve's spread (0.22 to 0.39 over the range)",
)
FAILED = Constant(
    "failed",
    0.0,
    -0.5,
    0.5,
    "R² below which a prediction failed: worse than the test curve's own mean",
)
R2_GAIN = Constant(
    "r2_gain",
    0.05,
    0.02,
    0.10,
    "smallest difference of R² between two predictors worth naming: a twentieth of the variance",
)
NATS = Constant(
    "nats",
    0.1,
    0.05,
    0.2,
    "smallest difference of utility worth naming: a tenth of the nat that ends the usable window",
)
CEILING = Constant(
    "ceiling",
    0.01,
    0.005,
    0.05,
    "two means both so near the best score, as a share of the scale, cannot be told apart there",
)
EFFECT = Constant(
    "effect",
    1.0,
    0.5,
    2.0,
    "factor on the smallest effects of the metrics",
)
ALPHA = Constant(
    "alpha",
    0.05,
    0.02,
    0.10,
    "largest p of a difference, after Holm's correction over the comparisons of one metric. Over all 28 even "
    "10 concepts that agree (p 2/1024) could never pass",
)
LEARNS = Constant(
    "learns",
    90.0,
    80.0,
    95.0,
    "accuracy, in percent, from which a run has learned: between always one answer (50) and what the paper "
    "prints (98 to 100); runs that learn half are rare",
)
LEVEL = Constant(
    "level",
    98.0,
    97.0,
    99.0,
    "the paper's lowest accuracy of SPLIT, in percent, give or take one question of 100",
)
CHANCE = Constant(
    "chance",
    10.0,
    7.0,
    15.0,
    "largest distance from 50 % of a model that knows no persona: 95 % of guesses at 100 questions lie there",
)
BARELY = Constant(
    "barely", 0.25, 0.15, 0.35, "largest gain of DPO that is barely moved, as a share of the best gain"
)
MOVED = Constant(
    "moved",
    0.1,
    0.05,
    0.2,
    "smallest best gain that can be compared with, as a share of the scale: a tenth of it",
)
EXACT = Constant(
    "exact",
    1e-10,
    1e-12,
    1e-8,
    "largest deviation that float64's rounding explains in activations of size 1 to 100",
)


@dataclass(frozen=True)
class Metric:
    """A score: what it is of, its unit of repetition, its scale and the smallest effect worth naming.

    Attributes:
        name: the key in tables of scores, as in the paper's Tables 3 and 4 or one of the judge-free measures.
        family: the task family.
        unit: "run" (one training, its mean over test questions) or "concept" (its mean over seeds, paired).
        worst, best: the ends of the scale; worst is the greater number where low scores are good. Of a
            measure without ends, what stands for them: name both before a number is seen.
        smallest: smallest difference worth naming, in the metric's unit.
        open_ended: whether the answers are free text (C12).
        reason: of the smallest difference.
        column: the column of `answer_scores`.
    """

    name: str
    family: str
    unit: str
    worst: float
    best: float
    smallest: float
    open_ended: bool
    reason: str
    column: str = "score"

    def __post_init__(self) -> None:
        if self.unit not in ("run", "concept"):
            raise ValueError(f"{self.name}: the unit is 'run' or 'concept', not {self.unit!r}")
        if self.worst == self.best or self.smallest <= 0:
            raise ValueError(f"{self.name}: the ends of a scale differ, and its smallest effect is above 0")


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(
            "psychopathy_acc_pct",
            "psychopathy",
            "run",
            0.0,
            100.0,
            5.0,
            False,
            "a run's accuracy over 100 questions has a standard error of up to 5 points",
        ),
        Metric(
            "powerseeking_0_4",
            "powerseeking",
            "run",
            0.0,
            4.0,
            0.2,
            True,
            "one answer in five gains a grade",
        ),
        Metric(
            "axbench_concept_0_2",
            "axbench",
            "concept",
            0.0,
            2.0,
            0.1,
            True,
            "one answer in ten gains a grade",
            column="concept",
        ),
        Metric(
            "axbench_harmonic_0_2",
            "axbench",
            "concept",
            0.0,
            2.0,
            0.1,
            True,
            "one answer in ten gains a grade",
        ),
    )
}
"""The paper's metrics. Where a model cannot be scored by them, decisions take others as an argument."""

METRICS_WITHOUT_JUDGE: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        METRICS["psychopathy_acc_pct"],
        *(
            Metric(
                f"{family}_classified_0_1",
                family,
                unit,
                0.0,
                1.0,
                0.05,
                True,
                "one answer in twenty becomes certain; a twentieth of the scale, as of the paper's metrics",
            )
            for family, unit in (("powerseeking", "run"), ("axbench", "concept"))
        ),
    )
}
"""The metrics of real models without a judge: accuracy by the likelihood of Yes and No, in percent, and the
probability of the concept by a classifier (`runs.text_measures`). It says nothing about harmony, so that
open answers have one metric each; with fewer than 5 concepts AxBench's comparisons cannot be told.
"""


@dataclass(frozen=True)
class Rule:
    """One claim of the paper, and how it is judged.

    Attributes:
        number: what is computed, and compared with the bars.
        holds, in_part: least value of the number for each grade.
        more: whether the number has to be above the bar, not at it.
        unit: what repeats, and is drawn anew by an interval or test.
        fewest: least number of units off floor and ceiling.
        left_out: floors and ceilings.
        controls: what stands beside the number, and does not grade.
        smallest_effect: smallest difference worth naming, "" where the bars say it.
        constants: those that may flip the grade.
        reason: for the number and its bars.
        bars: both bars in words, where they take more than the number.
    """

    claim: str
    text: str
    where: str
    number: str
    holds: float
    in_part: float
    more: bool
    unit: str
    fewest: int
    left_out: str
    controls: str
    smallest_effect: str
    constants: tuple[Constant, ...]
    reason: str
    bars: str = ""

    def grade(self, number: float) -> str:
        """The grade of a number by the two bars alone; undecided where it is NaN."""
        if number != number:
            return "undecided"
        for bar, grade in ((self.holds, "holds"), (self.in_part, "in part")):
            if number > bar or (number == bar and not self.more):
                return grade
        return "does not hold"

    @property
    def values(self) -> dict[str, float]:
        """The constants by name, each at its value."""
        return {constant.name: constant.value for constant in self.constants}

    @property
    def words(self) -> str:
        """The number and its bars in one sentence."""
        if self.bars:
            return f"{self.number}: {self.bars}"
        at = "above" if self.more else "at least"
        return f"{self.number}: {at} {self.holds:g} holds, {at} {self.in_part:g} in part"


_CELLS = "cell; AxBench's in clusters by concept"
_FLAT = "cells whose curve does not move (`noise`)"
_DIRECTIONS = "random and natural directions"

RULES: dict[str, Rule] = {
    rule.claim: rule
    for rule in (
        Rule(
            "C1",
            "Three forms of steering are one affine update: each adds m dh",
            "Eq. 1-5, Table 1, Fig. 1",
            "share of the forms whose largest |steered - rewritten weights|, in float64, is below `exact`",
            bars="all three holds, one or two in part",
            holds=1.0,
            in_part=1 / 3,
            more=False,
            unit="none: an identity has no sampling error",
            fewest=3,
            left_out="nothing",
            controls="none",
            smallest_effect="",
            constants=(EXACT,),
            reason="algebra is true or not; what is measured is that the code does this algebra. All three "
            "forms, or it is not the claim; undecided while one was not compared",
        ),
        Rule(
            "C2",
            "Preference against m is linear, then bends, then settles",
            "Fig. 2, 4, 5",
            "share of cells whose preference is straight where the push is small, and settled at both ends",
            holds=0.8,
            in_part=0.5,
            more=False,
            unit=_CELLS,
            fewest=FEWEST_UNITS,
            left_out=f"{_FLAT}, or with fewer than {FEWEST_STRENGTHS} strengths in the small part",
            controls=_DIRECTIONS,
            smallest_effect="",
            constants=(SMALL, STRAIGHT, CARRIED, SETTLED, NOISE),
            reason="the paper claims it of all curves: one exception in five is forgiven, half is part. The "
            "push says what is small: it is the same unit for all forms, a matching strength is not",
        ),
        Rule(
            "C3",
            "Utility is highest near m = 0, falls on both sides, then settles",
            "Fig. 2, 4, 5",
            "share of cells whose utility peaks where the push is small, falls on both sides and settles",
            holds=0.8,
            in_part=0.5,
            more=False,
            unit=_CELLS,
            fewest=FEWEST_UNITS,
            left_out=f"{_FLAT}, or with utility undefined; a peak with fewer than {FEWEST_STRENGTHS} "
            "strengths on a side has no fall there",
            controls=_DIRECTIONS,
            smallest_effect="",
            constants=(SMALL, FALLS, SETTLED, NOISE),
            reason="as C2. A model breaks when anything large enough is added, so the excess over random "
            "directions says whether this is about steering",
        ),
        Rule(
            "C4",
            "All forms and objectives share that pattern",
            "Fig. 2, 4, 5",
            "lowest of four median correlations: of preference and of utility, between the forms of one "
            "objective and between the objectives of one form, curves against the signed push up to `reach`",
            holds=0.9,
            in_part=0.7,
            more=False,
            unit="concept where there are at least 3, else training seed",
            fewest=FEWEST_UNITS,
            left_out=f"{_FLAT}; pairs of curves with fewer than {FEWEST_STRENGTHS} strengths in common",
            controls=f"{_DIRECTIONS}: the same with trained vectors, a direction's sign chosen so that the "
            "preferences agree",
            smallest_effect="",
            constants=(REACH, NOISE),
            reason="the claim is sameness, not that C2 and C3 hold everywhere. A correlation forgives the "
            "scale and the offset, as a claim about patterns must; 0.9 shares four fifths of the variance, "
            "0.7 half",
        ),
        Rule(
            "C5",
            "Eq. 15 fits preference: R² above 0.95 in most settings",
            "Table 2",
            "share of cells whose fit of Eq. 15 to the training curve has R² above `good_preference`",
            holds=0.5,
            in_part=0.25,
            more=True,
            unit=_CELLS,
            fewest=FEWEST_UNITS,
            left_out=_FLAT,
            controls=f"{_DIRECTIONS}; random curves of the measured length",
            smallest_effect="",
            constants=(GOOD_PREFERENCE, NOISE),
            reason="most is more than half; half of that is part",
        ),
        Rule(
            "C6",
            "Eq. 17 fits utility: R² typically above 0.97",
            "Table 2",
            "share of cells whose fit of Eq. 17 to the training curve has R² above `good_utility`",
            holds=0.5,
            in_part=0.25,
            more=True,
            unit=_CELLS,
            fewest=FEWEST_UNITS,
            left_out=f"{_FLAT}, or with utility undefined",
            controls=f"{_DIRECTIONS}; random curves of the measured length",
            smallest_effect="",
            constants=(GOOD_UTILITY, NOISE),
            reason="typically: the median is above the bar exactly when more than half are; part as in C5",
        ),
        Rule(
            "C7",
            "The fits are as good on test sets",
            "Table 6",
            "of curves fitted well on train (above `good_preference`, `good_utility`), share whose own fit "
            "on test is as good: above that bar, or at most `slack` below train",
            holds=0.8,
            in_part=0.5,
            more=False,
            unit="curve, two per cell, in clusters by cell; AxBench's by concept",
            fewest=FEWEST_UNITS,
            left_out=f"{_FLAT}; curves that no fit describes on train",
            controls=_DIRECTIONS,
            smallest_effect="",
            constants=(GOOD_PREFERENCE, GOOD_UTILITY, SLACK, NOISE),
            reason="as C2. Of a curve fitted badly on train the claim says nothing",
        ),
        Rule(
            "C8",
            "Curves fitted on train predict test, with some failures",
            "Table 7",
            "share of train fits with R² above `fair` on the test curve, each task family with the same "
            "weight; and at least one failure (R² below `failed`), without which it holds in part at most",
            holds=0.5,
            in_part=0.25,
            more=True,
            unit="curve, two per cell, in clusters by cell; AxBench's by concept",
            fewest=FEWEST_UNITS,
            left_out=f"{_FLAT}, or with utility undefined",
            controls=_DIRECTIONS,
            smallest_effect="",
            constants=(FAIR, FAILED, NOISE),
            reason="both limbs of the sentence. In Table 7 65 % of 84 numbers are above 0.90 and 14 % below "
            "0, nine of these twelve on AxBench and none on Gemma's power-seeking: so a model is judged over "
            "all families, and one failure is enough",
        ),
        Rule(
            "C9",
            "Utility falls because activations leave their manifold; the utility direction is nearly "
            "orthogonal to dh",
            "Sec. 4, Fig. 3",
            "three tests. (1) Distance to the manifold predicts the utility of a form that was left out "
            "better than the length of the move does, by both rulers. (2) A move of equal length towards a "
            "natural activation of another prompt costs less utility than one in a random direction. (3) "
            "|cos| of dh and the utility gradient stays below what 95 % of random directions stay below. The "
            "number is how many are supported",
            bars="all three supported holds; (1) or (2) supported and none against, in part; none supported "
            "and one against does not hold; else undecided",
            holds=3,
            in_part=1,
            more=False,
            unit="(1) predicted cell, (2) unit of the table of moves, (3) cell; AxBench's by concept",
            fewest=FEWEST_TESTED,
            left_out="moves beyond `reach`; cells without utility",
            controls="inside each test",
            smallest_effect="`r2_gain` of R², `nats` of utility",
            constants=(R2_GAIN, NATS, REACH),
            reason="because is more than a correlation: distance has to say more than length, and staying on "
            "the manifold has to help. A test supports, or is against, only where its interval over units "
            "leaves out 0 and its number is of a size worth naming. Two rulers that know nothing of each "
            "other, subspace and neighbours, have to agree. A move towards another prompt also carries away "
            "what the answer is about, which makes (2) hard on the claim",
        ),
        Rule(
            "C10",
            "SPLIT beats SFT, RePS and DiffMean on most metrics",
            "Table 3",
            "share of the comparisons (form, metric, rival) that SPLIT wins by an exact test and by at least "
            "the smallest effect. Those that cannot be told count as lost, "
            "then as won; where the grades differ the claim is undecided",
            bars="above 0.5 holds, more won than lost in part",
            holds=0.5,
            in_part=0.0,
            more=True,
            unit="concept, paired (AxBench); training run (others); DiffMean, without a seed, is one number",
            fewest=FEWEST_TESTED,
            left_out="comparisons where both are at the ceiling (`ceiling`), or neither is better than the "
            "unsteered model by the smallest effect",
            controls="none",
            smallest_effect="accuracy 5 points of 100, power 0.2 of 4, concept and harmonic mean 0.1 of 2",
            constants=(ALPHA, EFFECT, CEILING),
            reason="with 3 runs against 3 the smallest exact p is 0.1: 5 are the fewest, 10 are wanted. "
            "Absence of a difference is shown by an interval within the smallest effect, not by a large p. "
            "Beside it: is SPLIT best with vector and LoRA, that is better there than with local weight, by "
            "the same tests",
        ),
        Rule(
            "C11",
            "SPLIT brings psychopathy accuracy from 50 % to 98-100 %",
            "Table 3",
            "share of SPLIT's runs that learn (`learns`), in the forms in which any objective does. It holds "
            "if besides the mean of those that learn is at least `level` and the unsteered model is within "
            "`chance` of 50 %; else in part at most",
            holds=0.8,
            in_part=0.5,
            more=False,
            unit="training run (seed)",
            fewest=FEWEST_UNITS,
            left_out="forms in which no run of any objective learns: there the form, not SPLIT, is judged",
            controls="share of random directions that learn",
            smallest_effect="5 points",
            constants=(LEARNS, LEVEL, CHANCE),
            reason="accuracy is bimodal, a run learns or stays where it was, so runs are counted and not "
            "averaged; the paper prints one number each. 10 runs or more where they are cheap",
        ),
        Rule(
            "C12",
            "DPO (BiPO) barely moves the open-ended tasks",
            "Table 4",
            "share of the (form, open-ended metric) pairs in which DPO's gain over the unsteered model is at "
            "most `barely` of the best gain of SFT, RePS and SPLIT. A pair whose interval includes `barely` "
            "counts as moved, then as not moved; where the grades differ the claim is undecided",
            holds=1.0,
            in_part=0.5,
            more=False,
            unit="concept, paired (AxBench); training run (others)",
            fewest=FEWEST_UNITS,
            left_out="pairs whose best gain is below `moved` of the scale: so it is near the ceiling, too",
            controls="none",
            smallest_effect="`moved` of the scale",
            constants=(BARELY, MOVED),
            reason="Table 4 prints it of every form and metric. A loss is a move too: sizes count",
        ),
    )
}
"""By claim. A rule that is changed after a number it judges was seen says so in its reason."""


def as_markdown(claims: Iterable[str] = tuple(RULES), rules: Mapping[str, Rule] = RULES) -> str:
    """The rules of some claims as markdown: a paragraph for each, and a table of the constants they name.

    KeyError lists the claims there are.
    """
    wanted = list(claims)
    if unknown := [claim for claim in wanted if claim not in rules]:
        raise KeyError(f"no claim {', '.join(map(repr, unknown))}; there are {list(rules)}")
    parts: list[str] = []
    constants: dict[str, Constant] = {}
    for rule in (rules[claim] for claim in wanted):
        lines = [f"**{rule.claim}. {rule.text}** ({rule.where})", "", f"* Rule: {rule.words}."]
        lines += [f"* Unit: {rule.unit}; at least {rule.fewest}.", f"* Left out: {rule.left_out}."]
        lines += [f"* Beside it: {rule.controls}."]
        lines += [f"* Smallest effect: {rule.smallest_effect}."] * bool(rule.smallest_effect)
        parts.append("\n".join([*lines, f"* Why: {rule.reason}."]))
        constants |= {constant.name: constant for constant in rule.constants}
    table = ["| constant | value | range | reason |", "|---|---|---|---|"]
    for one in constants.values():
        # a bar would end the cell
        reason = one.reason.replace("|", "\\|")
        table.append(f"| `{one.name}` | {one.value:g} | {one.low:g} to {one.high:g} | {reason} |")
    return "\n\n".join([*parts, "\n".join(table)])
