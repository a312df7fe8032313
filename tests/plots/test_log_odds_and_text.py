"""Figures of log-odds and text: a panel per model and family, and what is drawn in it."""

import pandas as pd
import pytest

from splitkit.plots import log_odds_and_text as plots
from splitkit.plots.style import FORMS
from splitkit.studies.text import nats_spent
from tests.studies.text.test_nats_spent import cell


def table() -> pd.DataFrame:
    forms = [cell(unit, form) for unit in ("seed 0", "seed 1") for form in ("vector", "lora")]
    return pd.concat(forms, ignore_index=True).assign(effect=lambda rows: rows["score"])


def test_a_path_is_solid_while_utility_is_kept_and_marked_at_1() -> None:
    (axes,) = plots.figure_along(table(), "utility", "fluency", least=-3.0).axes
    drawn = [line for line in axes.lines if line.get_color() == FORMS["lora"].colour]
    thin, (dotted, solid, one) = drawn[:-3], drawn[-3:]
    assert len(thin) == 2 and dotted.get_linestyle() == ":"
    assert list(solid.get_xdata()) == [0.0, -0.1, -0.4] and list(one.get_xdata()) == [-0.4]
    assert len(dotted.get_xdata()) == 4 and axes.get_xlim()[0] == -3.0


def test_the_correlation_is_in_the_title_or_that_there_is_none() -> None:
    found = pd.DataFrame({"model": ["tiny-qwen2"], "family": ["axbench"], "rho": [""]})
    (axes,) = plots.figure_between(table(), found).axes
    assert "not judged" in axes.get_title() and len(axes.lines) == 2
    (axes,) = plots.figure_between(table(), found.assign(rho="0.50")).axes
    assert axes.get_title().endswith("ρ = 0.50")


def test_budgets_draw_the_rule_that_spends_alone() -> None:
    (axes,) = plots.figure_budgets(nats_spent.losses(table())).axes
    assert {len(line.get_xdata()) for line in axes.lines[:-1]} == {len(nats_spent.BUDGETS)}
    with pytest.raises(ValueError, match="no row"):
        plots.figure_budgets(nats_spent.losses(table()).query("rule == 'none'"))
