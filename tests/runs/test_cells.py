"""Cells, with toy training and sweeps in place of the engine: caching, failures, provenance, the table."""

import ast
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from splitkit import tasks
from splitkit.runs import cell_keys, cells
from splitkit.runs.kept_tables import make_tables
from splitkit.runs.profiles import CONTROLS, PROFILES, Cell, Profile, get_profile, strength_grid
from splitkit.storage import digests, paths
from splitkit.storage.files import RunInProgress, exclusive
from splitkit.studies import mean_curves

PROFILE = Profile(
    name="toy",
    models=("toy-model",),
    tasks=("psychopathy", "axbench/ocean"),
    combinations=(("vector", "split"), ("lora", "sft")),
    grid=strength_grid(2.0, 5),
    n_train=4,
    n_sweep=3,
    answered=(),
)
UNIT = 0.3


class ToyIntervention:
    def __init__(self, seed: int) -> None:
        self.seed = seed

    def save(self, folder: Path) -> None:
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps({"seed": self.seed}))


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The engine replaced by a toy; the calls to its `train`."""
    made: list[dict[str, Any]] = []

    def train(
        model: object, tokenizer: object, pairs: Sequence[str], *, shared: object, **given: Any
    ) -> ToyIntervention:
        made.append({"pairs": list(pairs), **given})
        return ToyIntervention(given["seed"])

    def sweep(
        model: object, tokenizer: object, iv: object, pairs: Sequence[str], m: Sequence[float], reduction: str
    ) -> pd.DataFrame:
        assert reduction == "mean"
        rows = [
            (x, i, 1.5 - np.tanh(x) / 3, 1.5 + i / 7, np.tanh(x) / 3, -x * x) for x in m for i in range(3)
        ]
        return pd.DataFrame(
            rows, columns=["m", "pair", "loss_positive", "loss_negative", "preference", "utility"]
        )

    # a toy has no files
    monkeypatch.setattr("splitkit.runs.preflight.fetch_models", lambda profile: None)

    def module(name: str, **contents: object) -> None:
        fake = ModuleType(f"splitkit.{name}")
        vars(fake).update(contents)
        monkeypatch.setitem(sys.modules, f"splitkit.{name}", fake)

    module("steering.formats.shipped", MODELS={"toy-model": SimpleNamespace(layer=3)})
    module("steering.models", load_model=lambda name: ("model", "tokenizer"))
    monkeypatch.setattr(tasks, "load_pairs", lambda task, split: [f"{split} {i}" for i in range(8)])
    module("steering.training", train=train)
    module("steering.sweeps", sweep=sweep, matching_strength=lambda *_: UNIT, UNIT_PAIRS=64)
    module(
        "runs.world_answers",
        STRENGTHS=(0.5, 1.0),
        choose_strength=lambda table: float(table["m"].max()),
        measure_strengths=lambda model, tokenizer, iv, task, split, m, n: pd.DataFrame(
            [{"m": x, "question": i, "text": "", "score": x} for x in m for i in range(n)]
        ),
    )
    monkeypatch.setattr(cells.CellResult, "intervention", lambda self: "intervention")
    monkeypatch.setattr(paths, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(paths, "DATA", tmp_path / "data")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "hparams.csv").write_text(
        "model,form,objective,task_family,lr,epochs,rank,gamma,negative\n"
        "toy-model,vector,split,psychopathy,0.1,2,,5.0,\n"
        "toy-model,vector,split,axbench,0.1,2,,5.0,\n"
        "toy-model,lora,sft,psychopathy,0.01,3,4,,negated\n"
        "toy-model,lora,sft,axbench,0.01,3,4,,negated\n"
    )
    return made


def test_a_cell_is_computed_once_and_read_back(calls: list[dict[str, Any]]) -> None:
    cell = PROFILE.cells()[0]
    result = cells.compute_cell(cell, PROFILE)
    again = cells.compute_cell(cell, PROFILE)
    assert result == again
    assert len(calls) == 1
    expected = {
        "form": "vector",
        "objective": "split",
        "layer": 3,
        "seed": 0,
        "lr": 0.1,
        "epochs": 2,
        "gamma": 5,
    }
    assert calls[0] == {"pairs": [f"train {i}" for i in range(4)], **expected}
    assert result.meta["matching_strength"] == UNIT
    assert result.meta["provenance"]["packages"]["torch"].startswith("2.13")
    table = result.sweep("test")
    assert np.array_equal(table["m"].unique(), [UNIT * r for r in PROFILE.grid])
    assert np.array_equal(table["preference"], np.tanh(table["m"]) / 3)
    with pytest.raises(KeyError, match="train.*test"):
        result.sweep("validation")
    kept = {stage: sorted(p.name for p in folder.iterdir()) for stage, folder in result.folders.items()}
    assert kept == {
        "trained": ["intervention", "manifest.json", "meta.json"],
        "curves": ["manifest.json", "sweep_test.csv.gz", "sweep_train.csv.gz"],
    }


def test_answers_are_chosen_on_validation_and_asked_once_on_test(calls: list[dict[str, Any]]) -> None:
    asked = Profile(**{**vars(PROFILE), "answered": (("vector", "diffmean"), ("lora", "sft")), "n_test": 3})
    results = {result.cell: result for result in cells.compute_cells(asked, jobs=1, progress=False)}
    assert len(results) == 2 * 3 and len(calls) == 6
    for cell, result in results.items():
        assert ("curves" in result.folders) == ((cell.form, cell.objective) in PROFILE.combinations)
        if (cell.form, cell.objective) not in asked.answered:
            with pytest.raises(KeyError, match="has no answers"):
                result.answers("test")
            continue
        assert result.answers("validation")["m"].unique().tolist() == [0.5 * UNIT, UNIT]
        unsteered = [0.0] if cell.objective == "diffmean" else []
        assert result.answers("test")["m"].unique().tolist() == [*unsteered, UNIT]
        assert len(result.answers("test")) == 3 * (1 + len(unsteered))


def test_a_stage_is_computed_anew_alone(calls: list[dict[str, Any]]) -> None:
    cells.compute_cells(PROFILE, jobs=1, progress=False)
    finer = Profile(**{**vars(PROFILE), "grid": strength_grid(2.0, 7)})
    assert len(cells.compute_cells(finer, jobs=1, progress=False)[0].sweep("train")["m"].unique()) == 7
    assert len(calls) == 4, "a new grid trains nothing"


def test_whatever_decides_a_number_moves_the_cell(calls: list[dict[str, Any]]) -> None:
    cell = PROFILE.cells()[0]
    here = cell_keys.cell_folder(cell, PROFILE)
    longer = Profile(**{**vars(PROFILE), "overrides": {"epochs": 9}})
    assert cell_keys.cell_folder(cell, longer) != here
    assert cell_keys.hparams(cell, longer)["epochs"] == 9
    renamed = Profile(**{**vars(PROFILE), "name": "other"})
    assert cell_keys.cell_folder(cell, renamed) == here


def test_a_failing_cell_is_named_and_the_others_are_kept(
    calls: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    train = sys.modules["splitkit.steering.training"].train

    def fails_for_lora(*inputs: Any, **given: Any) -> ToyIntervention:
        if given["form"] == "lora":
            raise FloatingPointError("loss is nan at step 3")
        return train(*inputs, **given)

    monkeypatch.setattr(sys.modules["splitkit.steering.training"], "train", fails_for_lora)
    with pytest.raises(cells.CellError, match=r"2 of 4 cells failed") as caught:
        cells.compute_cells(PROFILE, jobs=1, progress=False)
    assert "toy-model psychopathy lora sft seed 0: FloatingPointError: loss is nan at step 3" in str(
        caught.value
    )
    # nothing half done is left, and the next run computes what is missing only
    folder = paths.CACHE / "trained"
    assert len([p for p in folder.iterdir() if p.is_dir()]) == 2
    monkeypatch.setattr(sys.modules["splitkit.steering.training"], "train", train)
    calls.clear()
    assert len(cells.compute_cells(PROFILE, jobs=1, progress=False)) == 4
    assert [call["form"] for call in calls] == ["lora", "lora"]


def test_a_second_run_on_the_cache_is_refused(calls: list[dict[str, Any]]) -> None:
    with exclusive(paths.CACHE / "trained", "another"), pytest.raises(RunInProgress, match="another"):
        cells.compute_cells(PROFILE, jobs=1, progress=False)
    assert calls == []


def test_the_curve_table_is_tidy(calls: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    table = mean_curves.mean_curves.__wrapped__(PROFILE, jobs=1)["curves"]
    assert list(table.columns[:8]) == [
        "model",
        "task",
        "form",
        "objective",
        "seed",
        "split",
        "m",
        "m_relative",
    ]
    assert len(table) == 4 * 2 * len(PROFILE.grid)
    np.testing.assert_allclose(table["m"], UNIT * table["m_relative"], rtol=1e-12)
    np.testing.assert_allclose(table["preference"], np.tanh(table["m"]) / 3)


def test_curves_come_from_the_committed_table_unless_asked(
    calls: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedded = Profile(**{**vars(PROFILE), "name": "embedded"})
    monkeypatch.setattr(paths, "RESULTS", tmp_path / "results")
    first = mean_curves.curves(embedded, jobs=1)
    assert len(calls) == 4
    monkeypatch.setattr(paths, "CACHE", tmp_path / "empty cache")
    assert mean_curves.curves(embedded, jobs=1).equals(first)
    assert len(calls) == 4
    assert make_tables([mean_curves.mean_curves], embedded, 1) == []
    assert mean_curves.curves(embedded, jobs=1).equals(first)
    assert len(calls) == 8


def test_missing_settings_are_named(calls: list[dict[str, Any]]) -> None:
    with pytest.raises(KeyError, match=r"0 rows of hparams\.csv.*'objective': 'reps'"):
        cell_keys.hparams(Cell("toy-model", "psychopathy", "vector", "reps"))
    assert cell_keys.hparams(Cell("toy-model", "psychopathy", "vector", "diffmean"), PROFILE) == {}


STAGES = {
    "STEERED": ["steering.training", "steering.sweeps", "steering.pairs"],
    "ANSWERED": ["steering.training", "runs.world_answers"],
    "PAIRED": ["datasets.tasks", "runs.answers"],
    "JUDGED": ["runs.judged_answers"],
}
"""The modules that a stage of a cell calls."""

NEUTRAL = {
    "storage",
    "paper",
    "runs.cell_results",
    "runs.profiles",
}
"""They find and read files whose content is in the key, name tasks, or draw a grid: no number is theirs."""


def test_the_pairs_behind_the_unit_are_part_of_the_key() -> None:
    source = (paths.ROOT / "splitkit" / "steering" / "sweeps.py").read_text(encoding="utf-8")
    other = source.replace("UNIT_PAIRS = 64", "UNIT_PAIRS = 32")
    assert digests.syntax(other) != digests.syntax(source)


@pytest.mark.parametrize("stage", STAGES)
def test_the_code_digest_covers_all_that_a_stage_runs(stage: str) -> None:
    """The modules imported, directly or not, by those that `compute_cell` calls."""
    covered = {"STEERED": digests.STEERED, "ANSWERED": digests.ANSWERED}.get(
        stage, (*digests.ANSWERED, *digests.PAIRED, *digests.JUDGED)
    )
    places = [place.removesuffix(".py").replace("/", ".") for place in covered]
    left_out = {
        name
        for name in reached(*STAGES[stage])
        # the digest of a cell of the paper's own tasks has PAIRED besides
        if not any(name == place or name.startswith(f"{place}.") for place in [*places, *NEUTRAL, "datasets"])
    }
    assert left_out == set()


def test_a_digest_of_code_that_is_not_there_is_refused() -> None:
    with pytest.raises(FileNotFoundError, match=r"steering/recording\.py"):
        digests.code_digest(("steering/recording.py",))


def reached(*starts: str) -> set[str]:
    """Names below `splitkit` of the modules that some modules import, directly or not."""
    seen: set[str] = set()
    waiting = list(starts)
    while waiting:
        name = waiting.pop()
        if name in seen or any(name == one or name.startswith(f"{one}.") for one in NEUTRAL):
            continue
        path = paths.ROOT / "splitkit" / f"{name.replace('.', '/')}.py"
        if not path.exists():
            continue
        seen.add(name)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("splitkit"):
                folder = str(node.module).removeprefix("splitkit").strip(".")
                waiting += [folder, *(f"{folder}.{alias.name}".strip(".") for alias in node.names)]
    return seen


SHIPPED = (paths.DATA / "hparams.csv").exists() and (paths.MODELS / "tiny-qwen2").exists()


@pytest.mark.skipif(not SHIPPED, reason="the embedded models or their settings are not there")
@pytest.mark.parametrize("name", sorted(PROFILES))
def test_every_cell_of_every_profile_has_its_settings(name: str) -> None:
    profile = get_profile(name)
    # settings are those of a model, form, objective and task family, the same for every task and seed of them
    kinds = {(c.model, c.form, c.objective, tasks.task_family(c.task)): c for c in profile.cells()}
    for cell in kinds.values():
        closed = cell.objective in ("diffmean", *CONTROLS)
        assert closed or cell_keys.hparams(cell, profile)["epochs"] >= 1


@pytest.mark.skipif(not SHIPPED, reason="the embedded models or their settings are not there")
def test_a_failure_in_a_worker_process_is_named_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "CACHE", tmp_path)
    smoke = get_profile("smoke")
    unknown = Profile(
        **{
            **vars(smoke),
            "tasks": ("axbench/nothing",),
            "combinations": smoke.combinations[:2],
            "answered": (),
        }
    )
    with pytest.raises(cells.CellError, match=r"2 of 2 cells(?s:.*)axbench/nothing(?s:.*)psychopathy"):
        cells.compute_cells(unknown, jobs=2, progress=False)


def test_threads_are_one_or_as_many_as_said(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    for said, count in (("", 1), ("2", 2)):
        monkeypatch.setenv("SPLITKIT_THREADS", said)
        with cells.own_threads():
            assert torch.get_num_threads() == count
        assert torch.get_num_threads() == before
    for wrong in ("0", "all", "-1"):
        monkeypatch.setenv("SPLITKIT_THREADS", wrong)
        with pytest.raises(ValueError, match="SPLITKIT_THREADS is a number of threads"):
            cells.compute_cells(get_profile("smoke"), progress=False)
