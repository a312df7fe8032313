"""A claim for a reader: its rule in words, and its verdicts in the tiers that have a record."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from splitkit.runs.profiles import Profile, get_profile
from splitkit.runs.results import read_table
from splitkit.studies.decisions.rules import RULES, Rule, as_markdown

TIERS = ("small", "tiny")
"""The tiers in the order in which they are shown: the real models first."""
TABLES = ("verdicts", "verdict_grades", "verdict_tests")
_KEYS = ["tier", "model", "task", "part"]


@dataclass(frozen=True)
class ClaimView:
    """One claim: `rule`, and the rows of `TABLES` on it, each with its `tier` before them.

    A notebook shows it as markdown: the rule with its constants, `table` and `by_constant`.
    """

    rule: Rule
    verdicts: pd.DataFrame
    grades: pd.DataFrame
    tests: pd.DataFrame

    def table(self) -> pd.DataFrame:
        """The verdicts for a reader: a row per tier, model, task and part.

        verdict; number, with its interval; units ("10 concepts, 40 judged"); directions and random curves,
        each the control's number and what ours is beside it; paper; why, of an undecided one.
        """
        rows = self.verdicts
        found = rows[[*_KEYS, "verdict"]].copy()
        found["number"] = [_interval(*row) for row in rows[["ours", "low", "high"]].to_numpy(dtype=float)]
        counts = rows[["n_units", "off_floor_ceiling"]].to_numpy()
        found["units"] = [f"{units:g}, {judged:g} judged" for units, judged in counts]
        for name, control, beyond in (
            ("directions", "control", "beyond"),
            ("random curves", "random_curves", "random_curves_beyond"),
        ):
            pairs = zip(rows[control], rows[beyond].fillna(""), strict=True)
            found[name] = [f"{value:.2f} ({word or '-'})" if value == value else "" for value, word in pairs]
        found["paper"], found["why"] = rows["paper"].astype(str), rows["why"].fillna("")
        found["part"] = found["part"].replace("claim", "")
        return found.loc[:, [name for name in found if name in _KEYS[:3] or (found[name] != "").any()]]

    def by_constant(self) -> pd.DataFrame:
        """The grade of the number alone at the ends of each constant's range: a row as in `table`.

        A column per constant: one grade where none of low end, value and high end changes it, else the three.
        """
        rows = self.grades[self.grades["part"] == "claim"].sort_values("value", kind="stable")
        grades = rows.groupby([*_KEYS[:3], "constant"], sort=False)["verdict"].agg(list)
        words = grades.map(lambda three: three[0] if len(set(three)) == 1 else " / ".join(three))
        wide = words.unstack("constant")[[constant.name for constant in self.rule.constants]]
        order = pd.MultiIndex.from_frame(self.verdicts[_KEYS[:3]]).drop_duplicates()
        return wide.reindex(order).rename_axis(columns=None).reset_index()

    def _repr_markdown_(self) -> str:
        parts = [as_markdown([self.rule.claim])]
        if self.verdicts.empty:
            return f"{parts[0]}\n\nNo tier has a record of it yet."
        tables = (_markdown(self.table()), "Grade by constant:", _markdown(self.by_constant()))
        return "\n\n".join([*parts, *tables])


def claim_view(claim: str, tiers: Sequence[str | Profile] = TIERS) -> ClaimView:
    """A claim's rule, and its verdicts in those of the tiers that have them; KeyError lists the claims."""
    if claim not in RULES:
        raise KeyError(f"no claim {claim!r}; there are {list(RULES)}")
    parts: dict[str, list[pd.DataFrame]] = {name: [] for name in TABLES}
    for tier in tiers:
        profile = get_profile(tier) if isinstance(tier, str) else tier
        for name, rows in parts.items():
            if (profile.results / f"{name}.csv").exists():
                table = read_table(name, profile)
                own = table[table["claim"] == claim].drop(columns="claim")
                own.insert(0, "tier", profile.name)
                rows.append(own)
    found = [
        pd.concat(rows, ignore_index=True) if rows else pd.DataFrame(columns=_KEYS) for rows in parts.values()
    ]
    return ClaimView(RULES[claim], *found)


def _interval(value: float, low: float, high: float) -> str:
    if value != value:
        return "none"
    return f"{value:.2g}" if low == value == high else f"{value:.2f} [{low:.2f}, {high:.2f}]"


def _markdown(table: pd.DataFrame) -> str:
    """A table as markdown; a bar would end the cell."""
    rows = [list(table), ["---"] * table.shape[1], *table.astype(str).to_numpy().tolist()]
    lines = [" | ".join(entry.replace("|", "\\|") for entry in row) for row in rows]
    return "\n".join(f"| {line} |" for line in lines)
