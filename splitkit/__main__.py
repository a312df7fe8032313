"""The command line: `splitkit COMMAND ...`, or `python -m splitkit COMMAND ...`."""

import argparse
import sys
import warnings
from collections.abc import Sequence
from typing import Any

_PAIRS = (
    "a JSONL, CSV or Parquet file with the columns question, positive and negative, or a task of the tiny "
    "world with its split, as axbench/ocean:validation"
)
_STEERING = "a folder that `train` wrote, or a steering vector's file of another tool (.gguf, .safetensors)"
_BAD_INPUT = (
    *(ValueError, TypeError, KeyError, ImportError),
    *(FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError, PermissionError),
)
_FAILED = (RuntimeError, ArithmeticError, MemoryError, OSError)

_SHARES: dict[str, list[float]] = {
    "sweep": [0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.45, 0.7, 1],
    "choose": [0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8, 1.2, 1.6],
}
"""Strengths that are tried where none are named, in matching strengths."""

COMMANDS: dict[str, tuple[str, str]] = {
    "train": (
        "learn a steering from pairs, and save it",
        "splitkit train SmolLM2-135M-Instruct pairs.jsonl --out sea --layer 17",
    ),
    "scan": (
        "which layer to steer: a difference of means at each, measured on held-out pairs",
        "splitkit scan SmolLM2-135M-Instruct pairs.jsonl held_out.jsonl --layers 10-20",
    ),
    "sweep": (
        "preference and utility of held-out pairs over strengths",
        "splitkit sweep SmolLM2-135M-Instruct sea held_out.jsonl --relative 0,0.1,0.2,0.3 --out sweep.csv",
    ),
    "choose": (
        "a strength at which the model's own answers to held-out questions still read well, and why",
        "splitkit choose SmolLM2-135M-Instruct sea held_out.jsonl --questions 4",
    ),
    "generate": (
        "answers at one strength or several",
        'splitkit generate SmolLM2-135M-Instruct sea "How was your day?" --m 0,2.5',
    ),
    "export": (
        "a steering at a strength as a file that other tools load",
        "splitkit export SmolLM2-135M-Instruct sea sea.gguf --format gguf --m 2.5",
    ),
    "reproduce": (
        "the paper's record, notebooks and verdicts; `splitkit reproduce --help`",
        "splitkit reproduce --profile smoke",
    ),
}
"""Purpose and an example of each command."""


def numbers(text: str) -> list[float]:
    """Numbers between commas, as in "0,0.5,1"."""
    return [float(part) for part in text.split(",")]


def layer_numbers(text: str) -> list[int]:
    """Layers between commas, with ranges, both ends counted: "3,10-12" is 3, 10, 11, 12."""
    found: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


def options() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="splitkit",
        description="Steer a language model: learn it from pairs, find layer and strength, use it elsewhere.",
        epilog="Exit status: 0 done, 1 a run failed, 2 bad input. Tables go to stdout, progress to stderr.",
    )
    every = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    made = {
        name: every.add_parser(
            name,
            help=purpose,
            description=f"{purpose[0].upper()}{purpose[1:]}.",
            epilog=f"example: {example}",
            add_help=name != "reproduce",
        )
        for name, (purpose, example) in COMMANDS.items()
    }
    for name in ("train", "scan", "sweep", "choose", "generate", "export"):
        add = made[name].add_argument
        add("model", metavar="MODEL", help="a released or shipped model, a hub id, a folder or a GGUF file")
        add("--dtype", default="float32", help="float32, bfloat16, float16 or auto; float32 unless given")
        add("--device", default="cpu", help="cpu, cuda, cuda:1, mps; cpu unless given")
        add("--quiet", action="store_true", help="no progress bars")
    for name in ("sweep", "choose", "generate", "export"):
        made[name].add_argument("steering", metavar="STEERING", help=_STEERING)
    for name in ("train", "scan", "sweep", "choose"):
        made[name].add_argument("pairs", metavar="PAIRS", help=_PAIRS)
        made[name].add_argument(
            "--columns", metavar="Q,P,N", default="question,positive,negative", help="their names in the file"
        )
    for name in ("train", "scan", "sweep", "choose", "generate", "export"):
        made[name].add_argument("--json", action="store_true", help="JSON instead of a table")

    add = made["train"].add_argument
    add("--out", required=True, metavar="FOLDER", help="where to save it")
    add("--form", default="vector", help="vector, lora or local_weight; vector unless given")
    add("--objective", default="diffmean", help="diffmean (a vector, at once), split, sft, reps or dpo")
    add("--layer", type=int, help="from 0; the middle one unless given")
    add("--tokens", default="all", help="the steered ones: all (but BOS), answer, prompt or last")
    add("--seed", type=int, default=0)
    add("--set", nargs="+", default=[], metavar="NAME=VALUE", help="settings, as lr=0.02 epochs=4")

    add = made["scan"].add_argument
    add("held_out", metavar="HELD_OUT", help="pairs like PAIRS, of other words")
    add(
        "--layers",
        type=layer_numbers,
        metavar="LIST",
        help="as 3,10-12; six in the middle of the depth unless given",
    )

    for name, tried in _SHARES.items():
        either = made[name].add_mutually_exclusive_group()
        either.add_argument(
            "--m", type=numbers, metavar="LIST", help="strengths; --m=-1,0,1 where one is negative"
        )
        either.add_argument(
            "--relative",
            type=numbers,
            metavar="LIST",
            default=tried,
            help="strengths in matching strengths, measured on these pairs; ten up to "
            f"{tried[-1]} unless given",
        )
        made[name].add_argument(
            "--reduction", choices=("mean", "sum"), default="mean", help="of token losses"
        )
    made["sweep"].add_argument("--out", metavar="CSV", help="every pair at every strength, as a table")

    add = made["choose"].add_argument
    add(
        "--by",
        choices=("text", "losses"),
        default="text",
        help="text: the most preference while the answers still read; losses: the most within --tolerance, "
        "which answers nothing and is quicker, and at which text may loop; text unless given",
    )
    add(
        "--questions",
        type=int,
        default=8,
        help="how many of the pairs' questions are answered; 8 unless given",
    )
    add("--max-new-tokens", type=int, default=48, help="of an answer; 48 unless given")
    add("--tolerance", type=float, default=0.5, help="nats of utility to spend by losses; 0.5 unless given")

    add = made["generate"].add_argument
    add("questions", nargs="*", metavar="QUESTION")
    add("--questions", dest="file", metavar="FILE", help="one question a line")
    add("--m", type=numbers, required=True, metavar="LIST", help="strengths; --m=-1,1 where one is negative")
    add("--max-new-tokens", type=int, default=80)

    add = made["export"].add_argument
    add("path", metavar="PATH", help="the folder or file to write")
    add(
        "--format",
        required=True,
        choices=("peft", "checkpoint", "safetensors", "gguf"),
        help="peft, checkpoint (folders), safetensors or gguf (files of vectors)",
    )
    add("--m", type=float, required=True, help="the strength")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; the exit status is 1 when a run failed, 2 for bad input."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["reproduce"]:
        from splitkit.reproduce import main as reproduce

        return reproduce(given[1:])
    chosen = options().parse_args(given)
    try:
        from splitkit import commands

        with warnings.catch_warnings():
            warnings.showwarning = _show
            print(commands.run(chosen))
    except _BAD_INPUT as error:
        return _stopped(chosen.command, error, 2)
    except _FAILED as error:
        return _stopped(chosen.command, error, 1)
    except KeyboardInterrupt:
        print(f"splitkit {chosen.command} was interrupted", file=sys.stderr)
        return 130
    return 0


def _stopped(command: str, error: BaseException, status: int) -> int:
    said = error.args[0] if isinstance(error, KeyError) and error.args else error
    text = " ".join(str(said).split()) or type(error).__name__
    print(f"splitkit {command}: {text}", file=sys.stderr)
    return status


def _show(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    # what packages tell their developers is no news here
    if issubclass(category, UserWarning):
        print(f"splitkit warns: {' '.join(str(message).split())}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
