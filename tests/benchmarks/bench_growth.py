"""Growth: how time and memory of a sweep grow with strengths, pairs, layers and hidden size."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import Gemma2Config, Gemma2ForCausalLM

import splitkit as sk
from splitkit.steering.interventions import Intervention
from splitkit.steering.model_state.digest import model_digest
from splitkit.steering.tokenization import encode_pairs
from tests.benchmarks.racing import OURS, Race, Table, Untimed, Way, peak_memory
from tests.benchmarks.rivals import answer_losses, batched

SIZES = {
    "strengths": (3, 11, 41, 161),
    "pairs": (2, 8, 32, 128),
    "layers": (2, 6, 12, 24),
    "hidden size": (64, 128, 256, 512),
}
LARGE = {
    "strengths": (*SIZES["strengths"], 641, 2561),
    "pairs": (*SIZES["pairs"], 512),
    "layers": (*SIZES["layers"], 48, 96),
    "hidden size": (*SIZES["hidden size"], 1024, 2048, 4096),
}
USUAL = {"strengths": 11, "pairs": 4, "layers": 6, "hidden size": 128}
MEMORY = (5, 41, 321)
PLAIN = "plain forward, head at answers"


def random_model(layers: int, hidden: int) -> Gemma2ForCausalLM:
    """Gemma2 of any size with random weights, in the proportions of the embedded one."""
    torch.manual_seed(0)
    config = Gemma2Config(
        vocab_size=3328,
        hidden_size=hidden,
        intermediate_size=3 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=max(1, hidden // 32),
        num_key_value_heads=max(1, hidden // 64),
        head_dim=32,
        sliding_window=256,
        max_position_embeddings=512,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    return Gemma2ForCausalLM(config).eval()


def random_vector(model: Gemma2ForCausalLM) -> Intervention:
    """A vector of length 1 at the middle layer."""
    vector = torch.randn(model.config.hidden_size, generator=torch.Generator().manual_seed(0))
    layer = model.config.num_hidden_layers // 2
    return Intervention("vector", "sft", layer, {"vector": vector / vector.norm()}, model_digest(model))


def sized(tokenizer, **sizes: int):
    """A model, the pairs, an intervention and the strengths of one size."""
    size = {**USUAL, **{name.replace("_", " "): value for name, value in sizes.items()}}
    model = random_model(size["layers"], size["hidden size"])
    pairs = [pair for task in ("psychopathy", "axbench/ocean") for pair in sk.load_pairs(task)[-64:]]
    while len(pairs) < size["pairs"]:
        pairs = pairs * 2
    chosen = pairs[-size["pairs"] :]
    return model, chosen, random_vector(model), np.linspace(-4, 4, size["strengths"]).tolist()


@pytest.mark.parametrize("axis", list(SIZES))
def test_growth(benchmark, table: Table, rounds: int, large: bool, axis: str) -> None:
    tokenizer = sk.load_model("tiny-gemma2")[1]
    for size in (LARGE if large else SIZES)[axis]:
        model, pairs, iv, grid = sized(tokenizer, **{axis.replace(" ", "_"): size})
        positive, negative = encode_pairs(model, tokenizer, pairs)
        batches = batched([*positive, *negative])

        @torch.no_grad()
        def plain(model=model, batches=batches):
            for batch in batches:
                answer_losses(model, batch)

        def ours(model=model, pairs=pairs, iv=iv, grid=grid):
            sk.sweep(model, tokenizer, iv, pairs, grid)

        ours()
        plain()
        # one pytest-benchmark timer has one race: the sizes after the first are timed without it
        timer = benchmark if size == SIZES[axis][-1] else Untimed()
        Race(timer, table, rounds).run(
            ours,
            {PLAIN: Way(plain, 1 / len(grid))},
            benchmark=f"growth: {axis}",
            model="random Gemma2",
            case=str(size),
        )
        del model, iv


def test_memory_is_flat_in_the_number_of_strengths(table: Table) -> None:
    """Peak resident memory of a fresh process that sweeps; its start without a sweep is the base."""
    peaks = {count: _peak(count) for count in (0, *MEMORY)}
    for count in MEMORY:
        table.add(
            ("ratio", "<=", 1.1) if count == MEMORY[-1] else None,
            benchmark="memory",
            model="random Gemma2",
            case=f"{count} strengths",
            way=OURS,
            value=peaks[count] - peaks[0],
            unit="MB above loading",
            share=1.0,
            rounds=1,
            ratio=(peaks[count] - peaks[0]) / (peaks[MEMORY[0]] - peaks[0]),
        )


def _peak(count: int) -> float:
    command = [sys.executable, "-m", "tests.benchmarks.bench_growth", str(count)]
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


if __name__ == "__main__":
    torch.set_num_threads(1)
    number = int(sys.argv[1])
    own = sk.load_model("tiny-gemma2")[1]
    steered, texts, intervention, strengths = sized(own, pairs=32, strengths=max(number, 1))
    if number:
        sk.sweep(steered, own, intervention, texts, strengths)
    sys.stdout.write(f"{peak_memory()}\n")
