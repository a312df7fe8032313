"""GGUF files: transformers dequantises one into an ordinary model, and here it parses it only once."""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from tqdm.auto import tqdm
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
def read_once(progress: bool = False) -> Iterator[None]:
    """While the `with` lasts, transformers parses a GGUF file once and fast, and dequantises it in long runs.

    A config, a model and a tokenizer each parse all of the file's vocabulary; gguf makes arrays of every
    string and number of it, and dequantises 16 rows at a time; and the names of tensors are listed anew for
    every module. None of it changes a value.
    """
    import gguf
    from transformers import modeling_gguf_pytorch_utils as loading

    whole, parsed, dequantized = loading.load_gguf_checkpoint, loading._gguf_parse_value, gguf.dequantize
    heads = cache(lambda path: whole(path, return_tensors=False))

    def load(path: str, return_tensors: bool = False, **options: Any) -> Any:
        if return_tensors:
            return whole(path, return_tensors=True, **options)
        return {part: dict(values) for part, values in heads(path).items()}

    def parse(value: Any, types: Any) -> Any:
        if isinstance(value, bytes):
            return value.decode()
        return value[0] if isinstance(value, tuple) else parsed(value, types)

    def dequantize(data: np.ndarray, kind: Any) -> np.ndarray:
        elements, size = gguf.GGML_QUANT_SIZES[kind]
        if elements == 1:  # plain floats
            return dequantized(data, kind)
        blocks, step = data.reshape(-1, size), RUN // elements
        out = np.empty((len(blocks), elements), np.float32)
        for start in range(0, len(blocks), step):
            part = slice(start, start + step)
            out[part] = dequantized(blocks[part].reshape(1, -1), kind).reshape(-1, elements)
        return out.reshape(*data.shape[:-1], -1)

    with (
        patch.object(gguf, "GGUFReader", cache(_fast_reader())),
        patch.object(gguf, "dequantize", dequantize),
        patch.object(gguf, "get_tensor_name_map", cache(gguf.get_tensor_name_map)),
        patch.object(loading, "load_gguf_checkpoint", load),
        patch.object(loading, "_gguf_parse_value", parse),
        patch.object(loading, "tqdm", partial(tqdm, disable=not progress)),
    ):
        yield


RUN = 2**16
"""Weights dequantised at a time: what numpy makes of them on the way stays in the processor's cache."""


def _fast_reader() -> type:
    """gguf's reader over a plain array instead of numpy's memory map, which walks lists in one go."""
    import gguf

    class Reader(gguf.GGUFReader):
        @property
        def data(self) -> Any:
            return self._data

        @data.setter
        def data(self, mapped: np.ndarray) -> None:
            self._data = mapped.view(np.ndarray)

        def _get_field_parts(
            self, orig_offs: int, raw_type: int
        ) -> tuple[int, list[Any], list[int], list[Any]]:
            if raw_type != gguf.GGUFValueType.ARRAY or self.byte_order != "I":
                return super()._get_field_parts(orig_offs, raw_type)
            kind, count = struct.unpack_from("=IQ", self.data, orig_offs)
            start = end = orig_offs + 12
            if kind in self.gguf_scalar_to_np:
                numbers = self._get(start, self.gguf_scalar_to_np[kind], count)
                values, end = [(number,) for number in numbers.tolist()], start + numbers.nbytes
            elif kind == gguf.GGUFValueType.STRING:
                values = []
                for _ in range(count):
                    (length,) = struct.unpack_from("=Q", self.data, end)
                    start, end = end + 8, end + 8 + length
                    values.append(self.data[start:end].tobytes())
            else:
                return super()._get_field_parts(orig_offs, raw_type)
            types = [gguf.GGUFValueType.ARRAY, *[gguf.GGUFValueType(kind)][:count]]
            return end - orig_offs, values, list(range(len(values))), types

    return Reader


def as_ordinary(model: PreTrainedModel) -> PreTrainedModel:
    """The same model without the marks of a quantised one: its weights are plain floats and can be saved."""
    if (quantizer := getattr(model, "hf_quantizer", None)) is not None:
        quantizer.remove_quantization_config(model)
    return model
