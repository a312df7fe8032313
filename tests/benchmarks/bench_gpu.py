"""On a GPU: sweep, training and generation in bfloat16 on a random model of Gemma-2-9B's shape.

Tokens per second, and the share of the card's measured matrix rate that the arithmetic of those tokens makes:
2 operations per weight that a token meets, attention's scores left out. Nothing is read from a network.
`python -m tests.benchmarks.bench_gpu FOLDER` writes them into a folder. Without a GPU the same code runs on a
small model of the same architecture, so that it is known to work; nothing of that is recorded.
"""

import json
import platform
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from transformers import Gemma2Config, Gemma2ForCausalLM, PreTrainedModel

import splitkit as sk
from splitkit.runs.results import round_significant
from splitkit.steering.generation import answers
from splitkit.steering.interventions import Intervention
from splitkit.steering.model_state.digest import model_digest
from splitkit.steering.pairs import Pair
from splitkit.steering.tokenization import encode_pairs
from tests.benchmarks.racing import OURS, Table
from tests.benchmarks.rivals import answer_losses, batched

SHAPE: dict[str, Any] = dict(
    vocab_size=256000,
    hidden_size=3584,
    intermediate_size=14336,
    num_hidden_layers=42,
    num_attention_heads=16,
    num_key_value_heads=8,
    head_dim=256,
    query_pre_attn_scalar=256,
    sliding_window=4096,
    max_position_embeddings=8192,
)
"""google/gemma-2-9b-it's config.json."""
LAYER = 20
"""The paper's layer of Gemma-2-9B-IT."""
SMALL = SHAPE | dict(
    vocab_size=3328,
    hidden_size=64,
    intermediate_size=128,
    num_hidden_layers=4,
    num_attention_heads=2,
    num_key_value_heads=1,
    head_dim=32,
)
STRENGTHS = 41
SIZE = 8192
"""Rows and columns of the matrix product that gives the card's rate."""


def random_model(shape: dict[str, Any], device: str, dtype: torch.dtype) -> PreTrainedModel:
    """A model of that shape with random weights, made where it stays."""
    torch.manual_seed(0)
    config = Gemma2Config(**shape, pad_token_id=0, bos_token_id=1, eos_token_id=2)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            return Gemma2ForCausalLM(config).eval().requires_grad_(False)
    finally:
        torch.set_default_dtype(before)


def matrix_rate(device: str, dtype: torch.dtype, size: int, repeats: int = 20) -> float:
    """Operations per second of a square matrix product, the best of three series."""
    a = torch.randn(size, size, device=device, dtype=dtype)
    b = torch.randn(size, size, device=device, dtype=dtype)
    for _ in range(3):
        a @ b
    seconds = [_seconds(lambda: [a @ b for _ in range(repeats)], device) for _ in range(3)]
    return 2 * size**3 * repeats / min(seconds)


def jobs(model: PreTrainedModel, tokenizer: Any, pairs: Sequence[Pair], layer: int, new_tokens: int) -> dict:
    """Each job's call, the tokens that it is about, and the weights that these tokens meet in all."""
    vector = torch.randn(model.config.hidden_size, generator=torch.Generator().manual_seed(0))
    iv = Intervention("vector", "sft", layer, {"vector": vector}, model_digest(model))
    positive, negative = encode_pairs(model, tokenizer, pairs)
    sequences = [*positive, *negative]
    tokens, answered = sum(len(s.ids) for s in sequences), sum(s.answer_length for s in sequences)
    count = len(model.model.layers)
    block = sum(p.numel() for p in model.model.layers[0].parameters())
    head = model.lm_head.weight.numel()
    whole = tokens * count * block + answered * head
    tail = tokens * (count - layer - 1) * block + answered * head
    lower = tokens * (layer + 1) * block
    grid = torch.linspace(-4, 4, STRENGTHS).tolist()
    batches = batched(sequences, model.device)
    epochs = 2
    settings = {"form": "vector", "objective": "split", "layer": layer, "epochs": epochs}
    questions = [pair.question for pair in pairs]

    @torch.no_grad()
    def plain() -> None:
        for batch in batches:
            answer_losses(model, batch)

    def generated() -> None:
        answers(model, tokenizer, questions, intervention=iv, m=1.0, max_new_tokens=new_tokens, batch_size=64)

    return {
        "plain forward, head at answers": (plain, tokens, whole),
        f"sweep of {STRENGTHS} strengths": (
            lambda: sk.sweep(model, tokenizer, iv, pairs, grid),
            STRENGTHS * tokens,
            STRENGTHS * tail + lower,
        ),
        # both directions of each pair; backward through the frozen tail costs as much as forward
        f"SPLIT, {epochs} epochs": (
            lambda: sk.train(model, tokenizer, pairs, **settings),
            2 * epochs * tokens,
            2 * epochs * 2 * tail + lower,
        ),
        "answers": (generated, len(pairs) * new_tokens, len(pairs) * new_tokens * (count * block + head)),
    }


def _seconds(call: Callable[[], Any], device: str) -> float:
    _wait(device)
    start = time.perf_counter()
    call()
    _wait(device)
    return time.perf_counter() - start


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def test_the_same_code_on_a_small_model_and_the_processor() -> None:
    _, tokenizer = sk.load_model("tiny-gemma2")
    model = random_model(SMALL, "cpu", torch.bfloat16)
    assert model.dtype == torch.bfloat16
    for call, tokens, weights in jobs(model, tokenizer, sk.load_pairs("axbench/ocean")[:2], 1, 4).values():
        call()
        assert 0 < tokens < weights
    assert matrix_rate("cpu", torch.float32, 64, 2) > 0


def measured(rounds: int = 3) -> pd.DataFrame:
    """The card's matrix rate, and each job's tokens per second and share of that rate: case, value, unit."""
    _, tokenizer = sk.load_model("tiny-gemma2")
    model = random_model(SHAPE, "cuda", torch.bfloat16)
    # no early end: every answer has all its tokens
    model.generation_config.eos_token_id = None
    rate = matrix_rate("cuda", torch.bfloat16, SIZE)
    rows: list[tuple[str, float, str]] = [(f"matrix product, {SIZE} x {SIZE}", rate / 1e12, "TFLOP/s")]
    pairs = sk.load_pairs("axbench/ocean")[:64]
    for case, (call, tokens, weights) in jobs(model, tokenizer, pairs, LAYER, 64).items():
        call()
        seconds = sorted(_seconds(call, "cuda") for _ in range(rounds))[rounds // 2]
        rows.append((case, tokens / seconds, "tokens/s"))
        rows.append((f"{case}: share of the matrix rate", 100 * 2 * weights / seconds / rate, "%"))
    rows.append(("peak memory", torch.cuda.max_memory_allocated() / 2**30, "GiB"))
    return pd.DataFrame(rows, columns=["case", "value", "unit"])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU on this machine")
def test_the_papers_shape_in_bfloat16(table: Table) -> None:
    named = {"benchmark": "GPU", "model": "random, Gemma-2-9B's shape", "share": 1.0, "way": OURS}
    for row in measured().to_dict("records"):
        table.add(**named, **row, rounds=3)


def main(folder: Path) -> None:
    """Measure, and write gpu.csv with its provenance into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    round_significant(measured(), 4).to_csv(folder / "gpu.csv", index=False, lineterminator="\n")
    known = {
        "gpu": torch.cuda.get_device_name(0),
        "packages": {name: version(name) for name in ("torch", "transformers", "numpy")},
        "cuda": torch.version.cuda,
        "python": platform.python_version(),
        "model": f"random weights, Gemma-2-9B's shape, bfloat16, layer {LAYER}",
        "pairs": 64,
        "rounds": 3,
    }
    (folder / "gpu.provenance.json").write_text(json.dumps(known, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
