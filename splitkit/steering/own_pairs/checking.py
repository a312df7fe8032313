"""A look at pairs of one's own: what would be learnt in place of the concept, and what leaks."""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from splitkit.steering.pairs import Pair, Question, messages, require_pairs

FEW_TRAIN, FEW_HELD_OUT = 24, 8
"""Fewer training pairs or held-out ones than these are too few."""
LENGTHS = 1.5
"""Answers of one side that are longer than the other's by this factor, in the median, teach length."""
REPEATED = 0.5
"""Share of the pairs whose positive answer another pair has word for word, beyond which they are one text."""
LEVELS = ("mend", "look", "fine")


@dataclass(frozen=True, repr=False)
class PairsReport:
    """What `check_pairs` found: printed, it says all in one look; `table` has it as data.

    table: one row per check, what is to be mended first: level ("mend", "look" or "fine"), check, count (of
    rows), rows (their numbers, from 0; of held-out pairs where the check is about them), found, advice.
    """

    table: pd.DataFrame
    n_train: int
    n_held_out: int

    @property
    def good(self) -> bool:
        """True where nothing is to be mended."""
        return not (self.table["level"] == "mend").any()

    def __repr__(self) -> str:
        counts = Counter(self.table["level"])
        lines = [
            f"{self.n_train} training pairs, {self.n_held_out} held out: {counts['mend']} to mend, "
            f"{counts['look']} to look at"
        ]
        for row in self.table[self.table["level"] != "fine"].itertuples():
            shown = ", ".join(map(str, row.rows[:6])) + ", ..." * (len(row.rows) > 6)
            where = f" (rows {shown})" if row.rows and row.count < self.n_train else ""
            lines.append(f"  {row.level}: {row.found}{where}. {row.advice}")
        fine = self.table.loc[self.table["level"] == "fine", "check"]
        return "\n".join([*lines, *([f"  fine: {', '.join(fine)}"] if len(fine) else [])])

    def _repr_html_(self) -> str:
        return self.table.to_html(index=False)


def check_pairs(train: Sequence[Pair], held_out: Sequence[Pair] = ()) -> PairsReport:
    """What is wrong with pairs, or suspicious, before a model is trained on them; no model is needed.

    Texts count as the same where they differ in white space and capitals alone. The checks:

    * too few: fewer than 24 training pairs or 8 held-out ones;
    * duplicates: a question with the same two answers again;
    * swapped: an answer that is the positive one in one pair and the negative one in another; to be mended
      where both have one question;
    * repeated: more than half of the pairs share a positive answer, word for word, with another;
    * white space: two answers that differ in nothing else;
    * edges: answers of one side alone that begin or end in white space;
    * lengths: positive answers that are longer or shorter than negative ones, 1.5 times in the median.
      DiffMean, the difference of two means over tokens, is then a direction of long answers;
    * leaks: held-out pairs whose question, with an answer, or whose answer is in the training pairs.

    Raises:
        ValueError, TypeError: for pairs that cannot be used at all, with the number of the row.

    Example:
        >>> import splitkit as sk
        >>> pair = sk.Pair("How are you?", "Splendid! Everything is going well.", "Awful.")
        >>> print(sk.check_pairs([pair, pair]))
        2 training pairs, 0 held out: 3 to mend, 2 to look at
          mend: 1 of 2 pairs are there before (rows 1). Leave them out: they count twice.
          mend: positive answers are 5.8 times as long as negative ones, in the median. Make both \
answers about as long, or it is length that is learnt, by DiffMean above all.
          mend: no held-out pairs. Keep 8 or more out of training: strength and settings are chosen on them.
          look: 2 of 2 pairs share their positive answer with another. Write more different \
answers: a few sentences are soon learnt by heart.
          look: 2 training pairs. A dozen show the way; take 24 or more, better 50.
          fine: swapped, white space, leaks, edges
    """
    train = require_pairs(train)
    held_out = require_pairs(held_out) if len(held_out) else []
    found = [
        _duplicates(train),
        _swapped(train),
        _white_space(train),
        _lengths(train),
        _leaks(train, held_out),
        _few_held_out(held_out),
        _repeated(train),
        _edges(train),
        _few(train),
    ]
    table = pd.DataFrame(found, columns=["level", "check", "count", "rows", "found", "advice"])
    order = table["level"].map(LEVELS.index)
    table = table.iloc[order.argsort(kind="stable")].reset_index(drop=True)
    return PairsReport(table, len(train), len(held_out))


_Row = tuple[str, str, int, list[int], str, str]


def _row(level: str, check: str, rows: list[int], found: str, advice: str) -> _Row:
    return (level, check, len(rows), rows, found, advice) if rows else ("fine", check, 0, [], "", "")


def _plain(text: Question) -> str:
    """A text without capitals and with single spaces; of a conversation its messages, with their roles."""
    if not isinstance(text, str):
        text = "\n".join(f"{one.role}: {one.content}" for one in messages(text))
    return " ".join(text.split()).casefold()


def _later(keys: Sequence[object]) -> list[int]:
    """Rows whose key is there before."""
    seen: set[object] = set()
    return [row for row, key in enumerate(keys) if key in seen or seen.add(key)]  # type: ignore[func-returns-value]


def _duplicates(pairs: Sequence[Pair]) -> _Row:
    rows = _later([(_plain(p.question), _plain(p.positive), _plain(p.negative)) for p in pairs])
    found = f"{len(rows)} of {len(pairs)} pairs are there before"
    return _row("mend", "duplicates", rows, found, "Leave them out: they count twice.")


def _swapped(pairs: Sequence[Pair]) -> _Row:
    wanted: defaultdict[str, set[str]] = defaultdict(set)
    for pair in pairs:
        wanted[_plain(pair.positive)].add(_plain(pair.question))
    own = [(row, _plain(pair.negative), pair) for row, pair in enumerate(pairs)]
    rows = [row for row, text, pair in own if text in wanted and text != _plain(pair.positive)]
    same = any(_plain(pair.question) in wanted[text] for row, text, pair in own if row in rows)
    found = f"the negative answer of {len(rows)} pairs is the positive one of another"
    advice = "Turn round the pairs whose answers are swapped" + "." * same
    advice += "" if same else "; where the question decides, as for yes and no, it is right."
    return _row("mend" if same else "look", "swapped", rows, found, advice)


def _white_space(pairs: Sequence[Pair]) -> _Row:
    rows = [
        row
        for row, pair in enumerate(pairs)
        if "".join(pair.positive.split()) == "".join(pair.negative.split())
    ]
    found = f"the answers of {len(rows)} pairs differ in white space alone"
    return _row("mend", "white space", rows, found, "Mend or leave out: that is all they teach.")


def _lengths(pairs: Sequence[Pair]) -> _Row:
    ratios = [math.log(len(pair.positive.strip()) / len(pair.negative.strip())) for pair in pairs]
    middle = float(np.median(ratios))
    rows = list(range(len(pairs))) if abs(middle) > math.log(LENGTHS) else []
    kind = "long" if middle > 0 else "short"
    found = (
        f"positive answers are {math.exp(abs(middle)):.1f} times as {kind} as negative ones, in the median"
    )
    advice = "Make both answers about as long, or it is length that is learnt, by DiffMean above all."
    return _row("mend", "lengths", rows, found, advice)


def _leaks(train: Sequence[Pair], held_out: Sequence[Pair]) -> _Row:
    answers = {_plain(text) for pair in train for text in (pair.positive, pair.negative)}
    asked = {_plain(pair.question) for pair in train}
    own = [(_plain(p.question), _plain(p.positive), _plain(p.negative)) for p in held_out]
    whole = [row for row, (_, *texts) in enumerate(own) if any(text in answers for text in texts)]
    rows = sorted({*whole, *(row for row, (question, *_) in enumerate(own) if question in asked)})
    found = f"{len(rows)} held-out pairs are known from training, {len(whole)} of them by an answer"
    advice = "Keep questions and answers apart, or the losses flatter."
    return _row("mend" if whole else "look", "leaks", rows, found, advice)


def _few_held_out(held_out: Sequence[Pair]) -> _Row:
    count = len(held_out)
    if count >= FEW_HELD_OUT:
        return _row("", "held out", [], "", "")
    advice = f"Keep {FEW_HELD_OUT} or more out of training: strength and settings are chosen on them."
    return ("look" if count else "mend", "held out", count, [], f"{count or 'no'} held-out pairs", advice)


def _repeated(pairs: Sequence[Pair]) -> _Row:
    by_text: defaultdict[str, list[int]] = defaultdict(list)
    for row, pair in enumerate(pairs):
        by_text[_plain(pair.positive)].append(row)
    rows = sorted(row for same in by_text.values() if len(same) > 1 for row in same)
    if len(rows) <= REPEATED * len(pairs):
        rows = []
    found = f"{len(rows)} of {len(pairs)} pairs share their positive answer with another"
    advice = "Write more different answers: a few sentences are soon learnt by heart."
    return _row("look", "repeated", rows, found, advice)


def _edges(pairs: Sequence[Pair]) -> _Row:
    bare = [[text == text.strip() for text in (pair.positive, pair.negative)] for pair in pairs]
    rows = [row for row, (positive, negative) in enumerate(bare) if positive != negative]
    found = f"in {len(rows)} pairs one answer alone begins or ends in white space"
    return _row("look", "edges", rows, found, "Strip both, or neither.")


def _few(pairs: Sequence[Pair]) -> _Row:
    rows = list(range(len(pairs))) if len(pairs) < FEW_TRAIN else []
    found = f"{len(pairs)} training pairs"
    return _row("look", "few", rows, found, f"A dozen show the way; take {FEW_TRAIN} or more, better 50.")
