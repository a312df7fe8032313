"""Learning curves: equally many steps for any number of pairs, parts that merge, the rule on made-up rows."""

from dataclasses import replace

import pandas as pd
import pytest

from splitkit.plots.scores import figure_learning_curves
from splitkit.plots.style import OBJECTIVES
from splitkit.runs import learning_curves as study
from splitkit.runs.profiles import PROFILES
from splitkit.runs.search_space import OWN
from splitkit.storage import paths

TINY = PROFILES["tiny"]


def table(**best: list[float]) -> pd.DataFrame:
    """Scores of two objectives on two concepts, by form: the better one's at every number of pairs."""
    return pd.DataFrame(
        {"model": "a", "form": form, "n_pairs": n, "task": f"axbench/{c}", "objective": o, "score": s - less}
        for form, values in best.items()
        for n, s in zip(study.N_PAIRS, values, strict=True)
        for c in ("ocean", "music")
        for o, less in (("sft", 0.0), ("split", 0.1))
    )


def test_the_number_of_pairs_is_where_most_are_off_floor_and_ceiling() -> None:
    found = table(vector=[0.2, 0.6, 1.5, 1.9, 2.0], lora=[0.1, 0.2, 0.9, 1.7, 2.0])
    panels = study.open_panels(found).set_index(["form", "n_pairs"])
    assert panels.loc["vector", "open"].tolist() == [False, True, True, False, False]
    assert panels.loc["lora", "open"].tolist() == [False, False, True, True, False]
    assert panels["of"].eq("sft").all() and panels["spread"].round(9).eq(0.1).all()
    assert study.chosen_pairs(found) == 8
    # of equal ones the largest; a ceiling of 95 % leaves the vector open at 16 pairs
    assert study.chosen_pairs(table(vector=[0.2, 0.6, 1.5, 1.9, 2.0])) == 8
    assert study.choices(found).loc[0.25].tolist() == [8, 8, 16]
    flat = table(vector=[0.0] * 5)
    assert study.choices(flat).eq(0).all(axis=None)
    with pytest.raises(ValueError, match="the rule is silent"):
        study.chosen_pairs(flat)


def test_every_run_has_as_many_steps_and_parts_merge(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(paths, "RESULTS", tmp_path)
    monkeypatch.setattr(paths, "CACHE", tmp_path / "cache")
    monkeypatch.setattr("splitkit.runs.results.provenance", lambda *_: {})
    monkeypatch.setattr("splitkit.runs.results.table_key", lambda *_: "")
    seen = []

    def scored(cells, *_: object) -> pd.DataFrame:
        seen.extend(cells)
        return pd.DataFrame({"made_of": map(str, cells), "score": 1.0, "m_relative": 0.5})

    monkeypatch.setattr(study, "scored", scored)
    profile = replace(TINY, models=("tiny-qwen2",))
    study.learning_curves(profile, forms=["lora"], jobs=1, progress=False)
    found = study.learning_curves(profile, forms=["vector"], jobs=1, progress=False)
    runs = len(OWN) * 3 * len(study.N_PAIRS)
    assert len(found) == len(seen) == 2 * runs and found.groupby("form").size().eq(runs).all()
    assert (found["epochs"] * -(-found["n_pairs"] // found["batch_size"])).eq(32).all()
    sizes = {(dict(cell.variant).get("n_train", 0) or TINY.size("train", cell.task)) for cell in seen}
    assert sizes == set(study.N_PAIRS) and not {cell.seed for cell in seen} & set(TINY.seeds)
    with pytest.raises(ValueError, match="the paper's concepts"):
        study.learning_curves(PROFILES["paper"])


def test_the_figure_names_each_line_at_its_end() -> None:
    axes = figure_learning_curves(table(vector=[0.2, 0.6, 1.5, 1.9, 2.0]), "axbench", (0.25, 0.9)).axes
    (panel,) = axes
    labels = {text.get_text(): text for text in panel.texts}
    assert set(labels) == {OBJECTIVES[name].label for name in ("sft", "split")}
    upper, lower = labels[OBJECTIVES["sft"].label], labels[OBJECTIVES["split"].label]
    assert upper.get_position()[1] == 2.0 and lower.get_position()[1] == pytest.approx(1.83)
    assert upper.get_color() == OBJECTIVES["sft"].colour
    thick = [list(line.get_ydata()) for line in panel.lines if line.get_linewidth() == 2.0]
    assert [0.2, 0.6, 1.5, 1.9, 2.0] in thick and len(panel.lines) == 6
