"""Score tables from made cells, and Tables 3 and 4 in the paper's columns, beside its numbers."""

import json
import math
from pathlib import Path

import pandas as pd
import pytest

from splitkit import paper
from splitkit.runs.cells import CellResult
from splitkit.runs.kept_tables import make_tables
from splitkit.runs.profiles import Cell, get_profile
from splitkit.runs.results import read_table
from splitkit.storage import paths
from splitkit.storage.files import whole_folder
from splitkit.studies import scores as studie_scores
from splitkit.studies.score_differences import METRICS
from splitkit.studies.scores import beside_paper, paper_table, rank_correlation

MODEL = "tiny-gemma2"


def kept(folder: Path, cell: Cell, validation: pd.DataFrame, test: pd.DataFrame) -> CellResult:
    """A finished cell with these answers and a matching strength of 0.5."""
    place = folder / cell.slug
    with whole_folder(place) as written:
        (written / "meta.json").write_text(json.dumps({"matching_strength": 0.5}))
        validation.to_csv(written / "validation.csv.gz", index=False)
        test.to_csv(written / "test.csv.gz", index=False)
    return CellResult(cell, {"trained": place, "answers": place})


def yes_no(m: list[float], parsed: list[str]) -> pd.DataFrame:
    """Answers to the same questions at each m; "yes" is correct."""
    rows = [
        {"m": one, "question": i, "text": word, "parsed": word, "correct": word == "yes"}
        for one in m
        for i, word in enumerate(parsed)
    ]
    table = pd.DataFrame(rows)
    return table.assign(score=100.0 * table["correct"])


def made_cells(folder: Path) -> list[CellResult]:
    validation = pd.concat([yes_no([0.25], ["yes", "no"]), yes_no([0.5], ["yes", "yes"])])
    test = pd.concat([yes_no([0.0], ["no", "no", "neither"]), yes_no([0.5], ["yes", "yes", "no"])])
    power = pd.DataFrame({"m": 1.0, "question": [0, 1], "text": "", "power": [1 / 3, 0.0]})
    power = power.assign(readable=[True, False], fluency=[2, 0], score=power["power"])
    axbench = pd.DataFrame({"m": 1.0, "question": [0, 1], "text": "", "concept": [2, 1]})
    axbench = axbench.assign(instruction=2, fluency=[2, 1], harmonic=[2.0, 1.2], score=[2.0, 1.2])
    return [
        kept(folder, Cell(MODEL, "psychopathy", "vector", "diffmean"), validation, test),
        kept(folder, Cell(MODEL, "powerseeking", "vector", "split", 1), power, power),
        kept(folder, Cell(MODEL, "axbench/ocean", "lora", "sft"), axbench, axbench),
        CellResult(Cell(MODEL, "psychopathy", "lora", "sft"), {}),
    ]


def test_means_of_made_cells(tmp_path: Path) -> None:
    made = studie_scores.tables(made_cells(tmp_path))
    assert list(made) == list(studie_scores.BASE)
    scores = made["scores"]
    vanilla, diffmean, power, axbench = scores.to_dict("records")
    assert [vanilla[key] for key in ("form", "objective", "seed", "m", "n")] == [
        "vanilla",
        "vanilla",
        0,
        0.0,
        3,
    ]
    assert vanilla["score"] == 0 and math.isnan(vanilla["validation"])
    assert vanilla["neither"] == pytest.approx(1 / 3)
    assert (diffmean["m"], diffmean["m_relative"], diffmean["validation"]) == (0.5, 1.0, 100.0)
    assert diffmean["score"] == diffmean["correct"] == pytest.approx(200 / 3)
    assert diffmean["neither"] == 0 and math.isnan(diffmean["power"])
    assert (power["power"], power["readable"], power["seed"]) == (pytest.approx(1 / 6), 0.5, 1)
    assert math.isnan(power["correct"]) and math.isnan(power["concept"])
    assert [axbench[name] for name in ("concept", "instruction", "fluency", "harmonic")] == [1.5, 2, 1.5, 1.6]
    answers = made["answer_scores"]
    assert len(answers) == 3 + 3 + 2 + 2
    assert answers["score"].iloc[6] == 0.3333 and answers["concept"].tolist()[-2:] == [2, 1]
    strengths = made["strength_scores"]
    assert strengths["m_relative"].tolist() == [0.5, 1.0, 2.0, 2.0]
    assert strengths["score"].tolist() == pytest.approx([50.0, 100.0, 1 / 6, 1.6])


def test_answers_that_are_not_a_cells(tmp_path: Path) -> None:
    cell = Cell(MODEL, "psychopathy", "lora", "sft")
    tried = yes_no([0.5], ["yes"])
    cases = {
        "not at one chosen strength": yes_no([0.5, 1.0], ["yes"]),
        "was not tried on validation": yes_no([1.0], ["yes"]),
        "score of some test answers is NaN": tried.assign(score="NaN"),
    }
    for i, (message, test) in enumerate(cases.items()):
        with pytest.raises(ValueError, match=f"lora sft seed 0.*{message}"):
            studie_scores.tables([kept(tmp_path / str(i), cell, tried, test)])
    with pytest.raises(ValueError, match="no cell has answers"):
        studie_scores.tables([CellResult(cell, {})])


def test_committed_rows_of_other_seeds_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(paths, "CACHE", tmp_path / "cache")
    made = made_cells(tmp_path / "cells")
    monkeypatch.setattr(studie_scores, "compute_cells", lambda *_: made)
    profile = get_profile("embedded")
    first = studie_scores.score_base(profile)
    made.pop(1)  # the cell of seed 1
    assert make_tables([studie_scores.score_base], profile.first_seeds(1), 1) == []
    again = studie_scores.score_base(profile)
    for name in studie_scores.BASE:
        assert (again[name]["seed"] == 1).sum() == (first[name]["seed"] == 1).sum() > 0
        assert len(again[name]) == len(first[name])


def found(values: dict[tuple[str, str], list[float]]) -> pd.DataFrame:
    """Rows as `comparisons.intervals` gives them: four metrics for each (form, objective)."""
    rows = [
        {"form": form, "objective": objective, "metric": name, "mean": mean}
        for (form, objective), means in values.items()
        for name, mean in zip(METRICS, means, strict=False)
    ]
    table = pd.DataFrame(rows).assign(model=MODEL)
    table["seeds"] = table["metric"].str.startswith("axbench").map({True: 1, False: 3})
    return table.assign(low=table["mean"] - 0.1, high=table["mean"] + 0.1)


def test_tables_have_the_papers_columns_and_order() -> None:
    means = {
        ("vector", "split"): [99.0, 3.5, 1.8, 1.6],
        ("lora", "sft"): [98.0, 3.0],
        ("vanilla", "vanilla"): [50.0, 1.9, 0.5, 0.5],
        ("vector", "dpo"): [60.0, 1.9, 0.6, 0.5],
    }
    main, dpo = (paper_table(found(means), number) for number in (3, 4))
    assert main["objective"].tolist() == ["vanilla", "sft", "split"]
    seeds = ["seeds_psychopathy", "seeds_powerseeking", "seeds_axbench"]
    assert list(main.columns)[: len(paper.table(3).columns) + 3] == [*paper.table(3).columns, *seeds]
    assert main[seeds].iloc[0].tolist() == [3, 3, 1] and main["seeds_axbench"].isna().tolist() == [0, 1, 0]
    assert list(main.columns)[-2:] == ["axbench_harmonic_0_2_low", "axbench_harmonic_0_2_high"]
    assert main["psychopathy_acc_pct"].tolist() == [50.0, 98.0, 99.0]
    assert math.isnan(main["axbench_concept_0_2"][1]) and main["powerseeking_0_4_low"][1] == 2.9
    assert list(dpo.columns)[:9] == [*paper.table(4).columns, *seeds] and len(dpo) == 1
    with pytest.raises(ValueError, match="no scored answers for Table 4"):
        paper_table(found({("vector", "split"): [99.0]}), 4)
    with pytest.raises(KeyError, match="3 .*4"):
        paper_table(found(means), 2)


def test_ranks_beside_the_paper() -> None:
    theirs = paper.table(3)
    ours = theirs[theirs["model"] == "gemma-2-9b-it"].assign(model=MODEL)
    same = beside_paper(ours, 3)
    assert len(same) == 11 * 4 and (same["rank_ours"] == same["rank_paper"]).all()
    accuracy = same[same["metric"] == "psychopathy_acc_pct"].set_index(["form", "objective"])
    # five rows of the paper have 100 %
    assert accuracy.loc[("lora", "split"), "rank_paper"] == 3.0
    assert accuracy.loc[("vanilla", "vanilla"), "rank_paper"] == 11.0
    assert (rank_correlation(same)["spearman"].round(9) == 1).all()
    reverse = ours.assign(**{name: -ours[name] for name in METRICS})
    reverse["powerseeking_0_4"] = 1.0
    reverse.loc[reverse.index[2:], "axbench_concept_0_2"] = math.nan
    found = rank_correlation(beside_paper(reverse, 3)).set_index("metric")
    assert found.loc["axbench_harmonic_0_2", "spearman"] == pytest.approx(-1)
    assert math.isnan(found.loc["powerseeking_0_4", "spearman"])
    assert (
        math.isnan(found.loc["axbench_concept_0_2", "spearman"])
        and found.loc["axbench_concept_0_2", "n"] == 2
    )
    with pytest.raises(KeyError, match="tiny-gemma2"):
        beside_paper(ours.assign(model="mine"), 3)


def test_a_model_the_paper_has_no_dpo_of() -> None:
    ours = paper.table(4).assign(model="tiny-qwen2")
    beside = beside_paper(ours, 4)
    assert beside["paper"].isna().all() and beside["rank_ours"].isna().all()
    assert (rank_correlation(beside)["n"] == 0).all()


def test_written_tables_are_those_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(paths, "CACHE", tmp_path / "cache")
    rows = [
        {"form": form, "objective": objective, "seed": 0, "question": i, "score": float(i % 3)}
        for form, objective in (("vanilla", "vanilla"), ("lora", "split"), ("lora", "sft"), ("lora", "dpo"))
        for i in range(6)
    ]
    answers = pd.DataFrame(rows).assign(model=MODEL, task="powerseeking", concept=math.nan)
    profile = get_profile("embedded")
    monkeypatch.setattr(studie_scores, "score_base", lambda *_: {"answer_scores": answers})
    made = studie_scores.main_tables(profile)
    assert list(made) == ["table3_main", "table4_dpo", "score_differences"]
    for name, table in made.items():
        pd.testing.assert_frame_equal(table, read_table(name, profile))
    assert made["score_differences"]["outcome"].tolist() == ["tie", "tie"]
