"""Real size: one strength and one step of training on random models with the shapes of small real ones.

Beside plain forwards of the same tokens, a hook loop's step, and the same matrix products alone. The prompts
begin as a chat template makes them, with the same sentence for all. Nothing is read from a network.
`python -m tests.benchmarks.bench_real_size FOLDER` writes all three shapes into a folder.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

import splitkit as sk
from splitkit.runs.profiles import get_profile
from splitkit.runs.results import provenance, round_significant
from splitkit.steering.interventions import Intervention
from splitkit.steering.model_state.digest import model_digest
from splitkit.steering.objectives import OBJECTIVES
from splitkit.steering.replay import Replay
from splitkit.steering.shared_prefix import record_fork
from splitkit.steering.tokenization import buckets, encode_pairs
from splitkit.steering.trainer import Trainer
from splitkit.steering.training import default_config
from tests.benchmarks.racing import OURS, Race, Table, Untimed, Way, peak_memory
from tests.benchmarks.rivals import Hooks, answer_losses, batched, full_losses, losses_at
from tests.benchmarks.rivaltraining import train_split

SHAPES: dict[str, dict[str, Any]] = {
    "SmolLM2-135M": dict(
        model_type="llama",
        vocab_size=49152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
    ),
    "Gemma-3-270M": dict(
        model_type="gemma3_text",
        vocab_size=262144,
        hidden_size=640,
        intermediate_size=2048,
        num_hidden_layers=18,
        num_attention_heads=4,
        num_key_value_heads=1,
        head_dim=256,
        query_pre_attn_scalar=256,
        sliding_window=512,
    ),
    "Qwen2.5-0.5B": dict(
        model_type="qwen2",
        vocab_size=151936,
        hidden_size=896,
        intermediate_size=4864,
        num_hidden_layers=24,
        num_attention_heads=14,
        num_key_value_heads=2,
    ),
}
"""The config.json of each model, as far as it decides what is computed."""
SYSTEM = (
    "You are a friendly helper who was made by some people in a small town. Think of what is asked, and "
    "answer it in a few words. "
)
PAIRS, TRAINED = 4, 2
"""Pairs that are swept; pairs of a training step and of the sweeps whose memory is compared."""
ROUNDS = 3
STRENGTHS = (4, 16)
"""Strengths of two sweeps, one after the other, whose peaks of memory are compared."""
ALONE = "its matrix products alone"


def random_model(name: str) -> PreTrainedModel:
    """A model of that shape with random weights, its head tied to the embedding as in all three."""
    shape = dict(SHAPES[name])
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        shape.pop("model_type"),
        **shape,
        tie_word_embeddings=True,
        max_position_embeddings=8192,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    return AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)


def steered(name: str) -> tuple[PreTrainedModel, Any, list[sk.Pair], Intervention]:
    """A model, a tokenizer, pairs, and a vector for the middle layer."""
    model, tokenizer = random_model(name), sk.load_model("tiny-gemma2")[1]
    pairs = [replace(p, question=SYSTEM + p.question) for p in sk.load_pairs("axbench/ocean")[:PAIRS]]
    vector = torch.randn(model.config.hidden_size, generator=torch.Generator().manual_seed(0))
    layer = model.config.num_hidden_layers // 2
    return (
        model,
        tokenizer,
        pairs,
        Intervention("vector", "sft", layer, {"vector": vector}, model_digest(model)),
    )


class Products(TorchDispatchMode):
    """The matrix products of a call, kept with their matrices, to be run again alone."""

    def __init__(self, call: Callable[[], Any]) -> None:
        super().__init__()
        self.kept: list[tuple[Any, tuple[Any, ...], dict[str, Any]]] = []
        with self:
            call()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket in (torch.ops.aten.mm, torch.ops.aten.addmm):
            self.kept.append((func, args, kwargs or {}))
        return func(*args, **(kwargs or {}))

    @torch.no_grad()
    def __call__(self) -> None:
        for func, args, kwargs in self.kept:
            func(*args, **kwargs)


@pytest.fixture(params=list(SHAPES))
def shape(request: pytest.FixtureRequest, large: bool) -> str:
    if not large and request.param != "SmolLM2-135M":
        pytest.skip("--large measures the larger ones too")
    return request.param


def test_real_size(benchmark: Any, table: Table, rounds: int, shape: str) -> None:
    measure(shape, table, min(rounds, ROUNDS), benchmark)


def measure(shape: str, table: Table, rounds: int, timer: Any) -> None:
    """All rows of one shape; `timer` is pytest-benchmark's, or none."""
    model, tokenizer, pairs, iv = steered(shape)
    race_strength(Race(timer, table, rounds), shape, model, tokenizer, pairs, iv)
    race_step(Race(Untimed(), table, rounds), shape, model, tokenizer, pairs[:TRAINED], iv)
    del model
    if sys.platform == "linux":
        add_memory(table, shape)


def race_strength(
    race: Race, shape: str, model: PreTrainedModel, tokenizer: Any, pairs: list[sk.Pair], iv: Intervention
) -> None:
    """One strength of a sweep of pairs that are recorded already, beside a forward pass over them."""
    positive, negative = encode_pairs(model, tokenizer, pairs)
    sequences = [*positive, *negative]
    batches, replay = batched(sequences), Replay(model, iv.layer, iv.form)
    forks = []
    lengths = [len(p.ids) + len(n.ids) for p, n in zip(positive, negative, strict=True)]
    for rows in buckets(lengths, replay.budget):
        fork = record_fork(
            replay, tokenizer, [positive[row] for row in rows], [negative[row] for row in rows]
        )
        forks.append((torch.tensor(rows), fork, fork.deltas(iv)))
    m = torch.tensor([0.5])

    @torch.no_grad()
    def strength() -> torch.Tensor:
        found = torch.empty(len(pairs), 2)
        for rows, fork, dh in forks:
            found[rows] = fork.losses(replay, dh, m)[0]
        return found.T.flatten()

    @torch.no_grad()
    def plain(losses: Any) -> torch.Tensor:
        found = torch.empty(len(sequences))
        for batch in batches:
            found[batch.rows] = losses(model, batch)
        return found

    hooks = Hooks(model, iv.layer, iv.form, iv.parameters)
    expected = losses_at(hooks, batches, m.tolist(), len(sequences), answer_losses)[0]
    torch.testing.assert_close(strength(), expected, atol=1e-4, rtol=0)
    race.run(
        strength,
        {
            "plain forward, all logits": Way(lambda: plain(full_losses), target=("ratio", ">=", 1 / 0.4)),
            "plain forward, head at answers": Way(lambda: plain(answer_losses)),
            ALONE: Way(Products(strength), target=("ratio", ">=", 0.7)),
        },
        benchmark="real size: a strength",
        model=shape,
        case=iv.form,
    )


def race_step(
    race: Race, shape: str, model: PreTrainedModel, tokenizer: Any, pairs: list[sk.Pair], iv: Intervention
) -> None:
    """One step of SPLIT over all pairs, beside one over the whole model under a hook."""
    config = replace(default_config(iv.form, "split"), epochs=1, dropout=0.0, batch_size=len(pairs))
    config = replace(config, weights=OBJECTIVES["split"].defaults)
    # as many steps as are asked for, of which the first is the loop's only one
    endless = replace(config, epochs=10**6)
    trainer = Trainer(model, tokenizer, pairs, iv.form, "split", iv.layer, 0, endless)

    def loop(losses: Any) -> list[float]:
        return train_split(Hooks, model, trainer.sequences, iv.form, iv.layer, config, losses=losses)

    assert loop(answer_losses) == pytest.approx([next(trainer)], abs=1e-4, rel=0)
    race.run(
        lambda: next(trainer),
        {
            "hook loop": Way(lambda: loop(full_losses), target=("ratio", ">=", 1 / 0.55)),
            ALONE: Way(Products(lambda: next(trainer)), target=("ratio", ">=", 0.7)),
        },
        benchmark="real size: a step",
        model=shape,
        case=iv.form,
    )


def add_memory(table: Table, shape: str) -> None:
    """Peak memory of a fresh process that sweeps a few strengths, then more."""
    command = [sys.executable, "-m", "tests.benchmarks.bench_real_size", "--memory", shape]
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    for count, peak in zip(STRENGTHS, found, strict=True):
        table.add(
            ("ratio", "<=", 1.1) if count == STRENGTHS[-1] else None,
            benchmark="real size: memory",
            model=shape,
            case=f"{count} strengths",
            way=OURS,
            value=peak,
            unit="MB above the model",
            share=1.0,
            rounds=1,
            ratio=peak / found[0],
        )


def peaks(shape: str) -> list[float]:
    """MB above the model that a sweep of each number of strengths takes at most."""
    model, tokenizer, pairs, iv = steered(shape)
    # the peak of making the model is forgotten: what is held now is the peak so far
    Path("/proc/self/clear_refs").write_text("5")
    base, found = peak_memory(), []
    # the first one leaves the allocator's heap with holes, however many strengths it has
    for count in (STRENGTHS[0], *STRENGTHS):
        sk.sweep(model, tokenizer, iv, pairs[:TRAINED], [0.1 * m for m in range(count)])
        found.append(peak_memory() - base)
    return found[1:]


def main(folder: Path) -> None:
    """Measure all shapes, and write real_size.csv with its provenance into a folder."""
    table = Table()
    folder.mkdir(parents=True, exist_ok=True)
    for shape in SHAPES:
        measure(shape, table, ROUNDS, Untimed())
        # an interrupted run leaves the shapes that it has
        text = round_significant(table.frame(), 4).to_csv(index=False, lineterminator="\n")
        (folder / "real_size.csv").write_text(text)
    made = provenance(get_profile("embedded"))
    known = {name: made[name] for name in ("packages", "python", "revision", "cpu", "gpu")}
    known |= {"cores": os.cpu_count(), "torch threads": torch.get_num_threads()}
    # beside other work, times are longer and ratios of one round still compare like with like
    known |= {"processes that ran, mean of the last 15 minutes": round(os.getloadavg()[2], 1)}
    (folder / "real_size.provenance.json").write_text(json.dumps(known, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    torch.set_num_threads(1)
    if sys.argv[1] == "--memory":
        sys.stdout.write(json.dumps(peaks(sys.argv[2])) + "\n")
    else:
        main(Path(sys.argv[1]))
