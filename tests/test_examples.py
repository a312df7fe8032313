"""Every public name has an example, in a docstring or in the README, and the docstrings' own run."""

import doctest
import re
from importlib import import_module
from pathlib import Path

import pytest

import splitkit
from splitkit.storage import paths

PROMPT = re.compile(r"^ *(?:>>>|\.\.\.) (.*)$", re.MULTILINE)
EXAMPLES = {
    ".".join(path.relative_to(paths.ROOT).with_suffix("").parts): "\n".join(lines)
    for path in sorted(Path(splitkit.__file__).parent.rglob("*.py"))
    if (lines := PROMPT.findall(path.read_text(encoding="utf-8")))
}


@pytest.mark.parametrize("module", EXAMPLES)
def test_examples_in_docstrings_run(module: str) -> None:
    done = doctest.testmod(import_module(module), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert done.attempted and not done.failed


def test_every_public_name_has_an_example() -> None:
    blocks = re.findall(r"```python\n(.*?)```", (paths.ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    # tests/test_readme.py runs each of them
    assert len(blocks) == 5
    shown = set(re.findall(r"\bsk\.(\w+)", "\n".join([*blocks, *EXAMPLES.values()])))
    assert set(splitkit.__all__) - shown == set()
