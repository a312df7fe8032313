"""Do the log-odds predict what the model writes? Losses of held-out answers beside scores of written ones.

The rules, committed before any number here was computed. (An outside reader's correlations over all points
of the record were known: utility with fluency .87 to .93 in most forms, preference with concept -.20 to
-.03. The intervals, the comparison with the strength, between cells and the halves were not.)

* **What is correlated.** Spearman's rank correlation of a log-odds of test pairs and a mean score of
  validation answers, over all strengths asked of all objectives of one form, within one *unit*.
* **Unit**: a concept where a family has several tasks, else a seed. The mean over units gets a 95 %
  t-interval. A unit whose score has one value only, at floor or ceiling, has no correlation and is left out
  and counted.
* **Grades**: a correlation above `PREDICTS` is "holds", above `WEAK` "in part", below that "does not hold".
  "undecided" where the two ends of the interval have different grades, where fewer than `FEWEST` units are
  left, or where the grade of the interval changes when `PREDICTS` is moved within `PREDICTS_RANGE`.
* **More than the strength?** Whatever falls as m grows is correlated with all that does. So the same
  correlation is taken with -m (for utility) or m (for preference), and the log-odds says more only where the
  interval of the difference lies above 0.
* **Between cells** the points are a unit's cells (form x objective), each at its chosen strength, its score
  that of the test answers. A unit is judged where at least `FEWEST` of its cells are off floor and ceiling.
* **Text dies** where mean fluency first falls below `HALVED` of the unsteered model's; it is gone below
  `GONE`.
* **The rule for users** (how many nats of utility to spend, or which strength to take) has one constant,
  chosen on every other unit by the mean loss of score and tried on the rest, and the other way round. It
  beats its rival where the interval of the paired difference over units lies on one side of 0.
"""

PREDICTS = 0.5
"""Rank correlation above which one predicts the other: a quarter of the variance of ranks is shared."""
PREDICTS_RANGE = (0.4, 0.6)
WEAK = 0.2
"""Rank correlation above which one says a little about the other."""
FEWEST = 3
"""Fewest units, and cells of a unit, that are judged."""
HALVED, GONE = 0.5, 0.1
"""Shares of the unsteered model's fluency at which text is half dead, and dead."""
USABLE_NATS = 1.0
"""Utility may be so many nats below the unsteered model's in the usable window."""
BUDGETS = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
"""Nats of utility that the rule for users may spend."""
