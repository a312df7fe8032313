"""Stand-ins for what no test can have: hub models (random, small, in local folders) and a judge (over HTTP).

By hand, on the real data files: `python -m tests.standins FOLDER --data DATA` writes models with the real
vocabularies' sizes and runs a profile's rehearsal on them from end to end.
"""

import argparse
import hashlib
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from tests.judging.test_llm import Response, Server, code_of, grade, shown

SPECIAL = ("<pad>", "<bos>", "<eos>", "<user>", "<model>", "<unk>", "<|endoftext|>")
"""The last two are what the two architectures' own tokenizer classes would add."""
TEMPLATE = (
    "<bos>{% for turn in messages %}<user>{{ turn['content'] }}<eos>{% endfor %}"
    "{% if add_generation_prompt %}<model>{% endif %}"
)
REAL = {"gemma": 256_000, "qwen": 151_936}
"""Vocabulary sizes of the profiles' models."""


def made_tokenizer(texts: Iterable[str] = (), size: int = 263) -> PreTrainedTokenizerFast:
    """Byte-level BPE learnt from some texts, filled up to a size with tokens that nothing uses."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=min(size, 4096),
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(texts, trainer)
    core.add_tokens([f"<unused{i}>" for i in range(size - core.get_vocab_size())])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        additional_special_tokens=["<user>", "<model>"],
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def made_model(kind: str, vocabulary: int, layers: int, hidden: int, room: int) -> Any:
    """A random Gemma2 or Qwen2 whose losses differ between tokens."""
    common: dict[str, Any] = dict(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=room,
        initializer_range=0.15,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    torch.manual_seed(len(kind))
    if kind == "gemma":
        return Gemma2ForCausalLM(Gemma2Config(**common, head_dim=hidden // 4, sliding_window=room))
    return Qwen2ForCausalLM(Qwen2Config(**common))


def write_models(
    folder: Path,
    names: Iterable[str],
    texts: Iterable[str] = (),
    sizes: dict[str, int] | None = None,
    layers: int = 3,
    hidden: int = 32,
    room: int = 512,
) -> None:
    """Random models, as `<folder>/<owner>/<name>`, with the names of real ones."""
    texts = list(texts)
    for name in names:
        kind = "gemma" if "gemma" in name else "qwen"
        size = (sizes or {}).get(kind, 263)
        made_model(kind, size, layers, hidden, room).save_pretrained(folder / name)
        made_tokenizer(texts, size).save_pretrained(folder / name)


def by_hash(request: dict[str, Any]) -> Response:
    """A grade that depends on all that is shown and on nothing else."""
    scale = 5 if "0 to 4" in request["messages"][0]["content"] else 3
    text = repr(sorted(shown(request).items()))
    assert code_of(request) not in text
    return grade(request, hashlib.sha256(text.encode()).digest()[0] % scale)


def main() -> int:
    """Run the rehearsal of a profile on stand-ins with the real vocabularies' sizes; see above."""
    from splitkit.datasets.tasks import TASKS, task_rows
    from splitkit.runs.profiles import get_profile

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where models, cache and notebooks go")
    parser.add_argument("--data", required=True, help="the folder of the real data files")
    parser.add_argument("--profile", default="paper-rehearsal")
    chosen = parser.parse_args()
    os.environ["SPLITKIT_DATA"] = chosen.data
    texts = [t for task in TASKS for row in task_rows(task, False)[0] for t in (row.question, row.positive)]
    store = chosen.folder / "models"
    if not store.exists():
        names = get_profile(chosen.profile).models
        write_models(store, names, texts, REAL, layers=3, hidden=16, room=2048)
    server = Server()
    server.answer = by_hash
    environment = os.environ | {
        "SPLITKIT_MODELS": str(store),
        "SPLITKIT_CACHE": str(chosen.folder / "cache"),
        "SPLITKIT_JUDGE_URL": server.url,
        "SPLITKIT_JUDGE_MODEL": "a-judge-of-its-own",
        "SPLITKIT_DEVICE": "cpu",
    }
    command = [sys.executable, "-m", "splitkit.reproduce", "--profile", chosen.profile, "--jobs", "1"]
    done = subprocess.run(command, env=environment, check=False)
    print(f"the judge was asked {len(server.seen)} times")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
