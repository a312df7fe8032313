"""Fuzz: malformed configs and replies, each a clear error or a correct result.

An error is clear when its type is one that the function promises and its text names the file, the field or
the value; every other exception fails the test.
"""

import hashlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from safetensors.torch import save

from splitkit.judging.endpoint import Unscored, _content
from splitkit.judging.rubrics import RUBRICS, parse_reply
from splitkit.runs import cell_keys
from splitkit.runs.engines import Slurm, read_slurm
from splitkit.runs.profiles import Cell
from splitkit.steering.interventions import Intervention, load_intervention
from splitkit.storage import paths
from splitkit.storage.files import MANIFEST, DamagedFolder, damage, read_kept, whole_folder

CODE = "0123456789abcdef"
CELL = Cell("tiny-qwen2", "psychopathy", "vector", "split")
TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
"""Anything that JSON, in Python's reading of it, can hold."""


def fuzz(examples: int) -> Callable[[Any], Any]:
    # the fixtures are folders that every example overwrites
    quiet = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
    return hypothesis_settings(
        max_examples=examples, deadline=None, derandomize=True, suppress_health_check=quiet, database=None
    )


def spoiled(text: str) -> st.SearchStrategy[bytes]:
    """The bytes of a file: cut, with a byte changed, or with something put in."""
    content = text.encode()
    place = st.integers(0, len(content))
    return st.one_of(
        place.map(lambda at: content[:at]),
        st.tuples(place, st.integers(0, 255)).map(
            lambda one: content[: one[0]] + bytes([one[1]]) + content[one[0] + 1 :]
        ),
        st.tuples(place, st.binary(max_size=6)).map(
            lambda one: content[: one[0]] + one[1] + content[one[0] :]
        ),
        st.binary(max_size=40),
        TREES.map(lambda tree: json.dumps(tree).encode()),
    )


GOOD = json.dumps({"id": CODE, "why": "so", "score": 2})


@given(reply=spoiled(GOOD).map(lambda content: content.decode("utf-8", "replace")))
@fuzz(300)
def test_a_reply_gives_the_score_it_states_or_none(reply: str) -> None:
    for rubric in RUBRICS:
        score = parse_reply(reply, CODE, rubric)
        if math.isnan(score.value):
            assert score.kind in ("unparsable", "out of scale") and score.detail
        else:
            stated = json.loads(reply.strip().removeprefix("```json").removeprefix("```").removesuffix("```"))
            assert stated["id"] == CODE and stated["score"] == score.value <= RUBRICS[rubric].top


BODY = json.dumps({"choices": [{"message": {"content": "fine", "refusal": None}}]})


@given(body=spoiled(BODY).map(lambda content: content.decode("utf-8", "replace")))
@fuzz(200)
def test_a_response_is_a_completion_or_nonsense(body: str) -> None:
    try:
        content = _content(body)
    except Unscored:
        return
    message = json.loads(body)["choices"][0]["message"]
    assert content == (message["content"] or "")


COLUMNS = "model,task_family,form,objective,lr,epochs,batch_size,negative,gamma"
ROW = "tiny-qwen2,psychopathy,vector,split,0.1,2,8,negated,5.0"


@given(content=spoiled(f"{COLUMNS}\n{ROW}\n"))
@fuzz(200)
def test_a_table_of_settings_is_read_or_refused_by_name(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    folder = tmp_path_factory.mktemp("data")
    (folder / "hparams.csv").write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paths, "DATA", folder)
        try:
            found = cell_keys.hparams(CELL)
        except (KeyError, ValueError) as error:
            assert "hparams.csv" in str(error)
            return
    for name, value in found.items():
        assert (
            isinstance(value, str)
            if name == "negative"
            else math.isfinite(value) and not isinstance(value, bool)
        )


VECTOR = Intervention("vector", "sft", 1, {"vector": torch.ones(4)}, "digest", {"seed": 0})


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return VECTOR.save(tmp_path_factory.mktemp("saved"))


@given(data=st.data())
@fuzz(200)
def test_a_spoiled_config_of_an_intervention(saved: Path, data: st.DataObject) -> None:
    path = saved / "config.json"
    good = VECTOR.save(saved) / "config.json"
    path.write_bytes(data.draw(spoiled(good.read_text())))
    try:
        found = load_intervention(saved)
    except ValueError as error:
        assert str(saved) in str(error) or "form" in str(error) or "has the parameters" in str(error)
        return
    assert torch.equal(found.parameters["vector"], VECTOR.parameters["vector"])


@given(position=st.integers(0, 200), byte=st.integers(0, 255), cut=st.booleans())
@fuzz(100)
def test_spoiled_weights_of_an_intervention(saved: Path, position: int, byte: int, cut: bool) -> None:
    path = VECTOR.save(saved) / "intervention.safetensors"
    good = path.read_bytes()
    position %= len(good)
    bad = good[:position] if cut else good[:position] + bytes([byte]) + good[position + 1 :]
    path.write_bytes(bad)
    assert save({"vector": torch.ones(4)}) == good
    if bad == good:
        assert load_intervention(saved).form == "vector"
        return
    with pytest.raises(ValueError, match=r"intervention\.safetensors is damaged: it has sha256"):
        load_intervention(saved)


@given(content=spoiled('{"jobs": 2, "memory": "8GB"}'))
@fuzz(100)
def test_slurm_settings_are_read_or_refused_by_name(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.mktemp("slurm") / "slurm.json"
    path.write_bytes(content)
    try:
        found = read_slurm(path)
    except ValueError as error:
        assert str(path) in str(error)
        return
    assert isinstance(found, Slurm) and found.jobs >= 1 and "memory" in found.options


@given(data=st.data())
@fuzz(100)
def test_a_spoiled_manifest_or_file_is_damage(tmp_path_factory: pytest.TempPathFactory, data: Any) -> None:
    folder = tmp_path_factory.mktemp("kept") / "cell"
    with whole_folder(folder) as temporary:
        (temporary / "meta.json").write_text('{"matching_strength": 0.5}')
    name = data.draw(st.sampled_from(["meta.json", MANIFEST]))
    good = (folder / name).read_bytes()
    bad = data.draw(spoiled(good.decode()))
    (folder / name).write_bytes(bad)
    try:
        content = read_kept(folder, "meta.json")
    except DamagedFolder as error:
        assert str(folder / "meta.json") in str(error)
        return
    # a change of the manifest that leaves the digest alone changes nothing that is read
    assert hashlib.sha256(content).hexdigest() in (folder / MANIFEST).read_text()
    if bad == good:
        assert damage(folder) == ""
