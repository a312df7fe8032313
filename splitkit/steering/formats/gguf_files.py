"""GGUF files: transformers dequantises one into an ordinary model, and here it parses it only once."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from transformers import PreTrainedModel


def check_gguf(path: Path) -> None:
    """Have the packages that read GGUF, and a file that is one.

    Raises:
        ModuleNotFoundError: without one of them, saying how to install it.
        ValueError: for a file that does not begin as GGUF files do.
    """
    if find_spec("gguf") is None or find_spec("accelerate") is None:
        raise ModuleNotFoundError(
            f"{path} is a GGUF file, which the packages gguf and accelerate read: pip install '.[gguf]'."
        )
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise ValueError(f"{path} is no GGUF file: it does not begin with the letters GGUF.")


@contextmanager
def read_once() -> Iterator[None]:
    """While the `with` lasts, transformers parses a GGUF file once, and tables of its names once.

    A config, a model and a tokenizer each parse all of the file's vocabulary, most of the time through
    numpy's memory maps, whose slices are slow to make; and the names of tensors are listed anew for every
    module. None of it changes a value.
    """
    import gguf
    from transformers import modeling_gguf_pytorch_utils as loading

    class Reader(gguf.GGUFReader):
        """A reader whose bytes are a plain array over the memory map."""

        @property
        def data(self) -> Any:
            return self._data

        @data.setter
        def data(self, mapped: np.ndarray) -> None:
            self._data = mapped.view(np.ndarray)

    whole = loading.load_gguf_checkpoint
    heads = cache(lambda path: whole(path, return_tensors=False))

    def load(path: str, return_tensors: bool = False, **options: Any) -> Any:
        if return_tensors:
            return whole(path, return_tensors=True, **options)
        return {part: dict(values) for part, values in heads(path).items()}

    with (
        patch.object(gguf, "GGUFReader", cache(Reader)),
        patch.object(gguf, "get_tensor_name_map", cache(gguf.get_tensor_name_map)),
        patch.object(loading, "load_gguf_checkpoint", load),
        patch.object(loading, "tqdm", lambda items, **_: items),
    ):
        yield


def as_ordinary(model: PreTrainedModel) -> PreTrainedModel:
    """The same model without the marks of a quantised one: its weights are plain floats and can be saved."""
    if (quantizer := getattr(model, "hf_quantizer", None)) is not None:
        quantizer.remove_quantization_config(model)
    return model
