"""Profiles of real models from end to end, on stand-ins: random models, made data, a judge over HTTP."""

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest

import splitkit as sk
from splitkit.judging.judges import JudgeError
from splitkit.runs import cell_keys, judged_answers, notebooks, results
from splitkit.runs.cells import CellError, compute_cell, compute_cells
from splitkit.runs.kept_tables import make_tables
from splitkit.runs.profiles import Cell, Profile, get_profile
from splitkit.storage import paths
from splitkit.studies import (
    ablation,
    few_pairs,
    layers,
    loss_reduction,
    mean_curves,
    samples,
    score_views,
    unified_view,
)
from splitkit.studies import scores as studie_scores
from splitkit.studies.manifold import tables
from tests import madedata
from tests.judging.test_llm import KEY, Server, completion, grade, shown
from tests.standins import by_hash, write_models

GEMMA, QWEN = get_profile("paper").models
STUDIES = (
    mean_curves.mean_curves,
    studie_scores.score_base,
    few_pairs.few_pairs,
    layers.layer_table,
    layers.yes_no_table,
    ablation.ablate,
    samples.samples,
    tables.geometry,
    loss_reduction.reductions,
)
"""All that load a model; the fits that follow see tables only, whatever the profile."""
RUN = {
    "00_start_here": "nothing is in bold",
    "08_axbench": "No settings were searched for Qwen/Qwen2.5-7B-Instruct",
    "10_powerseeking": "The judge grades power alone",
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Server]]:
    """Models, data and judge of this module, as the environment names them to any process."""
    folder, server = tmp_path_factory.mktemp("real"), Server()
    server.answer = by_hash
    write_models(folder / "models", [GEMMA, QWEN])
    with pytest.MonkeyPatch.context() as patch:
        for name in ("SPLITKIT_RESULTS", "SPLITKIT_FIGURES"):
            patch.delenv(name, raising=False)
        madedata.install_everywhere(patch, folder / "data", madedata.made())
        patch.setenv("SPLITKIT_MODELS", str(folder / "models"))
        patch.setenv("SPLITKIT_CACHE", str(folder / "cache"))
        patch.setenv("SPLITKIT_JUDGE_URL", server.url)
        patch.setenv("SPLITKIT_JUDGE_MODEL", "made-judge")
        patch.setenv("OPENAI_API_KEY", KEY)
        patch.setenv("SPLITKIT_DEVICE", "cpu")
        patch.setattr(paths, "CACHE", folder / "cache")
        yield folder, server
    server.http.shutdown()
    server.http.server_close()


@pytest.fixture(scope="module")
def profile(world: tuple[Path, Server]) -> Profile:
    """The paper profile's rehearsal on one of its models, its cells and tables made."""
    chosen = get_profile("paper-rehearsal", QWEN)
    compute_cells(chosen, jobs=1, progress=False)
    assert make_tables(STUDIES, chosen, 1) == []
    return chosen


@pytest.fixture
def elsewhere(world: tuple[Path, Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setattr(paths, "CACHE", tmp_path)
    return tmp_path


def one_cell(model: str = QWEN, task: str = "paper/powerseeking") -> Profile:
    whole = get_profile("paper-rehearsal", model)
    return replace(whole, tasks=(task,), combinations=(), answered=(("vector", "diffmean"),))


def test_every_table_that_loads_a_model_is_made(profile: Profile) -> None:
    found = studie_scores.score_base(profile, jobs=1)
    scores = found["scores"]
    assert set(scores["task"]) == set(profile.tasks) and set(scores["model"]) == {QWEN}
    assert scores["score"].notna().all()
    written = studie_scores.main_tables(profile)
    assert set(written) == {"table3_main", "table4_dpo", "score_differences"}
    beside = studie_scores.beside_paper(written["table3_main"], 3)
    assert beside["paper"].notna().any()
    for name in ("curves", "few_pairs", "psychopathy_layers", "psychopathy_yes_no", "ablation", "samples"):
        assert len(results.read_table(name, profile)) > 0
    origin = json.loads((profile.results / "scores.provenance.json").read_text())
    assert origin["judge"]["model"] == "made-judge" and origin["judge"]["host"] == "127.0.0.1"
    assert "powerseeking/train.csv" in origin["data"]["files"]


def test_requests_are_counted_and_an_answer_is_graded_once(
    profile: Profile, world: tuple[Path, Server]
) -> None:
    cells = [one for one in compute_cells(profile, 1, progress=False) if "answers" in one.folders]
    judged = {one.cell.task for one in cells if one.judge()}
    assert judged == {"paper/powerseeking", "paper/axbench/code-constructs"}
    sent = sum(judge["requests"] for one in cells if (judge := one.judge()))
    # one more in every preparation; nothing else is asked about twice
    asked = [str(sorted(shown(r).items())) + r["messages"][0]["content"][:200] for r in world[1].seen]
    own = [text for text in asked if "lead the club" not in text]
    assert 0 < sent <= len(own)
    assert len(own) == len(set(own))


def test_the_judge_is_part_of_the_key(profile: Profile, monkeypatch: pytest.MonkeyPatch) -> None:
    cell = next(c for c in profile.cells() if judged_answers.is_judged(c.task) and profile.scored(c))
    before = cell_keys.cell_folders(cell, profile)
    monkeypatch.setenv("SPLITKIT_JUDGE_MODEL", "another")
    after = cell_keys.cell_folders(cell, profile)
    assert {stage for stage in before if before[stage] != after[stage]} == {"answers"}
    assert cell_keys.settings(cell, profile)["hparams_of"] == "qwen2.5-7b-instruct"


def test_no_key_is_in_any_file(profile: Profile, world: tuple[Path, Server]) -> None:
    files = [path for path in world[0].rglob("*") if path.is_file()]
    assert len(files) > 100
    assert [path for path in files if KEY.encode() in path.read_bytes()] == []


@pytest.mark.parametrize("name", RUN)
def test_notebooks_run_by_profile_and_model_alone(name: str, profile: Profile, tmp_path: Path) -> None:
    executed = notebooks.run_notebook(paths.NOTEBOOKS / f"{name}.ipynb", profile, tmp_path)
    text = json.dumps(nbformat.read(executed, as_version=4), ensure_ascii=False)
    assert RUN[name] in text
    assert KEY not in text


def test_gemma_runs_too_and_its_intervention_is_kept_in_float32(elsewhere: Path) -> None:
    chosen = replace(one_cell(GEMMA, "paper/psychopathy"), combinations=(("lora", "split"),))
    cell = Cell(GEMMA, "paper/psychopathy", "lora", "split")
    found = compute_cell(cell, chosen)
    assert found.meta["dtype"] == "bfloat16" and found.meta["hparams_of"] == "gemma-2-9b-it"
    assert {str(p.dtype) for p in found.intervention().parameters.values()} == {"torch.float32"}
    assert np.isfinite(found.sweep("test")["preference"]).all()
    answered = compute_cell(Cell(GEMMA, "paper/psychopathy", "vector", "diffmean"), chosen)
    assert {"correct", "correct_by_likelihood", "covered"} <= set(answered.answers("test"))


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"SPLITKIT_JUDGE_URL": "", "OPENAI_API_KEY": ""}, "no key"),
        ({"SPLITKIT_JUDGE_URL": "http://127.0.0.1:9/v1"}, "no connection"),
        ({"SPLITKIT_JUDGE_BUDGET": "100"}, "need up to 36 requests"),
        ({"SPLITKIT_JUDGE_BUDGET": "20"}, "need up to 36 requests, SPLITKIT_JUDGE_BUDGET allows 20"),
    ],
)
def test_no_judge_is_told_before_any_training(
    environment: dict[str, str], said: str, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    if environment.get("SPLITKIT_JUDGE_BUDGET") == "100":
        compute_cells(one_cell(), jobs=1, progress=False)
        return
    with pytest.raises(JudgeError, match=said):
        compute_cells(one_cell(), jobs=1, progress=False)
    assert not list((elsewhere / "trained").glob("[!.]*"))


def test_answers_without_a_score_are_counted_and_never_guessed(
    elsewhere: Path, world: tuple[Path, Server]
) -> None:
    def sometimes(request: dict) -> object:
        lost = "lead the club" not in str(request) and sum(shown(request)["answer"].encode()) % 3 == 0
        return completion("?") if lost else by_hash(request)

    world[1].answer = sometimes
    try:
        (found,) = compute_cells(one_cell(), jobs=1, progress=False)
    finally:
        world[1].answer = by_hash
    both = pd.concat([found.answers("validation"), found.answers("test")])
    lost = both["score"].isna()
    assert lost.any() and not lost.all()
    assert both.loc[lost, "reason"].str.contains("unparsable").all()
    judge = found.judge()
    assert judge and judge["unscored"] == lost.sum() and judge["answers"] == len(both)
    answers = studie_scores.tables([found])["answer_scores"]
    kept = studie_scores.complete(answers)
    assert kept["score"].notna().all() and len(kept) < len(answers)
    (sentence,) = score_views.unscored(answers)
    assert f"{answers['score'].isna().sum()} of {len(answers)} answers were not scored" in sentence


def test_a_judge_that_fails_in_mid_run_fails_the_cell_and_the_rerun_goes_on(
    elsewhere: Path, world: tuple[Path, Server]
) -> None:
    from tests.judging.test_llm import failure

    def broken(request: dict) -> object:
        return grade(request, 1) if "lead the club" in str(request) else failure(401, "gone")

    world[1].answer = broken
    try:
        with pytest.raises(CellError, match="JudgeError"):
            compute_cells(one_cell(), jobs=1, progress=False)
    finally:
        world[1].answer = by_hash
    assert len(list((elsewhere / "trained").glob("[!.]*"))) == 1
    (found,) = compute_cells(one_cell(), jobs=1, progress=False)
    assert found.answers("test")["score"].notna().all()


def test_what_is_missing_is_named(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"steers layer 20 of google/gemma-2-9b-it, which has layers 0 to 2"):
        compute_cells(get_profile("paper"), progress=False)
    absent = get_profile("paper-rehearsal", "google/gemma-2-2b-it")
    with pytest.raises(FileNotFoundError, match=r"no model 'google/gemma-2-2b-it'.*Qwen/Qwen2\.5-7B"):
        compute_cells(absent, progress=False)
    monkeypatch.setenv("SPLITKIT_DEVICE", "cuda:77")
    with pytest.raises(ValueError, match="no device 'cuda:77'; there are cpu"):
        compute_cells(get_profile("paper-rehearsal", QWEN), progress=False)
    monkeypatch.setenv("SPLITKIT_DATA", str(elsewhere / "nowhere"))
    monkeypatch.setenv("SPLITKIT_DEVICE", "cpu")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        compute_cells(get_profile("paper-rehearsal", QWEN), progress=False)


def test_a_model_of_your_own_by_its_folder(elsewhere: Path, world: tuple[Path, Server]) -> None:
    folder = world[0] / "models" / QWEN
    own = get_profile("paper-rehearsal", os.path.relpath(folder))
    assert own.models == (str(folder),)
    assert own.layer(str(folder)) == 1
    cell = own.cells()[0]
    assert cell_keys.hparams(cell, own) == cell_keys.hparams(replace(cell, model=QWEN), own)
    assert compute_cell(replace(cell, form="vector", objective="diffmean"), own).unit > 0
    assert own.results != get_profile("paper-rehearsal").results


def test_an_architecture_in_small_stands_for_a_model_too_large_for_copies(
    world: tuple[Path, Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    models, said = unified_view.subjects([QWEN, "tiny-qwen2"])
    assert said == [] and models[QWEN][0].config.hidden_size == 32
    monkeypatch.setattr(unified_view, "LARGE", 1000)
    models, said = unified_view.subjects([GEMMA, QWEN, "tiny-qwen2"])
    assert [model.config.hidden_size for model, _ in models.values()] == [64, 64, 128]
    assert len(said) == 2 and "too many for copies in float64" in said[0]
    for name, (model, tokenizer) in models.items():
        table = unified_view.identity_table(name, model, tokenizer, sk.load_pairs("psychopathy")[:2], [1.0])
        assert (table.loc[table["compared_with"] == "rewritten", "magnitude"] <= -10).all()
    assert unified_view.layer_size(QWEN) == (64, 32)
