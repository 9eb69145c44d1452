"""A LoRA's weights as bytes, and what they must be before any engine sees them. No torch.

Everything is read off the bytes that are handed over, so that what was checked is what is used.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
from msgspec import Struct

from models.errors import AdapterInvalid

MAX_HEADER_BYTES = 16 << 20
_LENGTH = 8  # bytes of the header's length
_SIZES = {"F32": 4, "F16": 2, "BF16": 2}
_LARGEST = 65_504.0  # of float16: engines cast an adapter to the base's type, and beyond it there is only infinity
_BLOCK = 1 << 20  # values looked at together
_MATRIX = re.compile(r"base_model\.model\.([A-Za-z0-9_.]+)\.lora_([AB])\.weight")
_FEATURES = {"lora_magnitude_vector": "DoRA", ".bias": "bias", "lora_embedding": "adapted embeddings"}


class TensorInfo(Struct, frozen=True, forbid_unknown_fields=True):
    """What a safetensors header says of one tensor; offsets in bytes from the header's end."""

    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


class Matrix(Struct, frozen=True):
    """One of the two matrices of an adapted module."""

    module: str
    side: Literal["A", "B"]
    info: TensorInfo


def check_weights(raw: bytes, rank: int, target_modules: list[str]) -> list[Matrix]:
    """The matrices in these safetensors bytes, once they are a whole LoRA of this rank on modules so named; else AdapterInvalid.

    Each module has an A of [rank, in] and a B of [out, rank], all of one type of float, every value a number that half
    precision holds.
    """
    header, start = read_header(raw)
    matrices = [_matrix(name, info) for name, info in header.items()]
    _check_layout(matrices, len(raw) - start)
    _check_pairs(matrices, rank, target_modules)
    for matrix in matrices:
        _check_values(raw, start, matrix)
    return matrices


def check_fits(matrices: list[Matrix], base: Path) -> None:
    """AdapterInvalid where a module is not in the base of this directory, or has another shape there.

    A base whose weights go by other names than its modules (none is found) is left to the proof after loading.
    """
    shapes = {name: info.shape for file in sorted(base.glob("*.safetensors")) for name, info in header_of(file).items()}
    found = [(matrix, shapes.get(f"{matrix.module}.weight")) for matrix in matrices]
    if not any(shape for _, shape in found):
        return
    for matrix, shape in found:
        if shape is None:
            raise AdapterInvalid(f"the adapter changes {matrix.module}, which the base {base.name} does not have")
        have, needs = (matrix.info.shape[1], shape[-1]) if matrix.side == "A" else (matrix.info.shape[0], shape[0])
        if have != needs:
            raise AdapterInvalid(
                f"the adapter's {matrix.module} has {have} {'inputs' if matrix.side == 'A' else 'outputs'}, "
                f"the base {base.name} has {needs}: it was trained on another base"
            )


def read_header(raw: bytes) -> tuple[dict[str, TensorInfo], int]:
    """Tensors by name, and where their data begins; AdapterInvalid when these are no safetensors bytes."""
    length = int.from_bytes(raw[:_LENGTH], "little") if len(raw) >= _LENGTH else 0
    if not 0 < length <= min(MAX_HEADER_BYTES, len(raw) - _LENGTH):
        raise AdapterInvalid("the weights are not a safetensors file, or a part of one")
    try:
        header = json.loads(raw[_LENGTH : _LENGTH + length], object_pairs_hook=_once)
        header.pop("__metadata__", None)
        return msgspec.convert(header, dict[str, TensorInfo]), _LENGTH + length
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise AdapterInvalid("the weights are not a safetensors file: its header can't be read") from None


def layer_of(module: str) -> int | None:
    """The number of the layer that a module of this name is in; None where it is in none.

    >>> layer_of("model.layers.20.self_attn.q_proj")
    20
    """
    found = re.search(r"\.(\d+)\.", module)
    return int(found[1]) if found else None


def zeros_like(raw: bytes) -> bytes:
    """Weights of the same shapes that change nothing."""
    _, start = read_header(raw)
    return raw[:start] + bytes(len(raw) - start)


def header_of(file: Path) -> dict[str, TensorInfo]:
    """What a safetensors file holds; AdapterInvalid where it is none. Raises OSError."""
    with file.open("rb") as opened:
        first = opened.read(_LENGTH)
        return read_header(first + opened.read(min(int.from_bytes(first, "little"), MAX_HEADER_BYTES)))[0]


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Of a name that comes twice, one reader takes the first and another the last."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name comes twice")
    return found


def _matrix(name: str, info: TensorInfo) -> Matrix:
    match = _MATRIX.fullmatch(name)
    if match is None:
        feature = next((feature for mark, feature in _FEATURES.items() if mark in name), None)
        what = f"{feature} ({name[:120]!r})" if feature else f"{name[:120]!r}, which is no plain LoRA matrix"
        raise AdapterInvalid(f"the weights hold {what}: only plain LoRA can be served")
    if info.dtype not in _SIZES:
        raise AdapterInvalid(f"the weights hold {name[:120]!r} as {info.dtype}: it must be one of {', '.join(_SIZES)}")
    return Matrix(match[1], "A" if match[2] == "A" else "B", info)


def _check_layout(matrices: list[Matrix], data_bytes: int) -> None:
    if not matrices:
        raise AdapterInvalid("the weights hold no tensors")
    at = 0
    for info in sorted((matrix.info for matrix in matrices), key=lambda info: info.data_offsets):
        size = math.prod(info.shape) * _SIZES[info.dtype]
        if info.data_offsets != (at, at + size) or not all(side > 0 for side in info.shape):
            raise AdapterInvalid("the weights' header does not say where their data lies: the file is damaged")
        at += size
    if at != data_bytes:
        raise AdapterInvalid(
            f"the weights have {data_bytes} bytes of data, their header speaks of {at}: they are cut off"
        )
    if len(dtypes := {matrix.info.dtype for matrix in matrices}) > 1:
        raise AdapterInvalid(f"the weights mix {' and '.join(sorted(dtypes))}: an adapter has one type of numbers")


def _check_pairs(matrices: list[Matrix], rank: int, target_modules: list[str]) -> None:
    sides: dict[str, set[str]] = {}
    for matrix in matrices:
        sides.setdefault(matrix.module, set()).add(matrix.side)
        if len(matrix.info.shape) != 2 or matrix.info.shape["AB".index(matrix.side)] != rank:
            shape = " x ".join(map(str, matrix.info.shape))
            raise AdapterInvalid(
                f"lora_{matrix.side} of {matrix.module} is {shape}: its rank is not the config's, {rank}"
            )
    for module, found in sides.items():
        if found != {"A", "B"}:
            raise AdapterInvalid(f"{module} has lora_{found.pop()} only: the weights are incomplete")
    named = {module.rsplit(".", 1)[-1] for module in sides}
    if named != set(target_modules):
        raise AdapterInvalid(
            f"the config adapts {', '.join(sorted(target_modules))}, the weights hold {', '.join(sorted(named))}: "
            f"an engine would apply a part of them"
        )


def _check_values(raw: bytes, start: int, matrix: Matrix) -> None:
    for values in _values(raw, start, matrix.info):
        largest = float(np.max(np.abs(values)))
        if not largest <= _LARGEST:  # also where it is not a number
            what = (
                f"{largest:.3g}, more than half precision holds"
                if math.isfinite(largest)
                else "a value that is no number"
            )
            raise AdapterInvalid(
                f"lora_{matrix.side} of {matrix.module} holds {what}: the training diverged, or it is damaged"
            )


def _values(raw: bytes, start: int, info: TensorInfo) -> Iterator[np.ndarray[Any, np.dtype[np.float32]]]:
    """A tensor's values as float32, a block at a time."""
    count, size = math.prod(info.shape), _SIZES[info.dtype]
    for first in range(0, count, _BLOCK):
        offset, many = start + info.data_offsets[0] + first * size, min(_BLOCK, count - first)
        if info.dtype == "BF16":  # the upper half of a float32
            upper = np.frombuffer(raw, "<u2", many, offset).astype(np.uint32)
            yield (upper << np.uint32(16)).view(np.float32)
        else:
            yield np.frombuffer(raw, f"<f{size}", many, offset).astype(np.float32)
