"""What a LoRA's bytes must be, and what is said of those that are something else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load, save, save_file

from models.errors import AdapterInvalid
from models.weights import check_fits, check_weights, read_header

MODULE = "model.layers.0.self_attn.q_proj"
Tensors = dict[str, torch.Tensor]


def named(module: str = MODULE, **sides: torch.Tensor) -> Tensors:
    return {f"base_model.model.{module}.lora_{side}.weight": tensor for side, tensor in sides.items()}


def lora(module: str = MODULE, dtype: torch.dtype = torch.float32) -> Tensors:
    """Rank 2, 3 inputs, 4 outputs."""
    return named(module, A=torch.ones(2, 3, dtype=dtype), B=torch.ones(4, 2, dtype=dtype))


def check(tensors: Tensors, rank: int = 2, modules: tuple[str, ...] = ("q_proj",)) -> Any:
    return check_weights(save(tensors), rank, list(modules))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_whole_lora_is_good_in_every_float_that_engines_read(dtype: torch.dtype) -> None:
    assert [(m.module, m.side) for m in check(lora(dtype=dtype))] == [(MODULE, "A"), (MODULE, "B")]


@pytest.mark.parametrize(
    ("tensors", "reason"),
    [
        (named(A=torch.ones(2, 3)), "lora_A only"),
        (named(A=torch.ones(3, 3), B=torch.ones(4, 3)), "its rank is not the config's, 2"),
        (named(A=torch.ones(2, 3), B=torch.ones(4, 3)), "lora_B of .* 4 x 3"),
        (named(A=torch.ones(2, 3, 1), B=torch.ones(4, 2)), "2 x 3 x 1"),
        (named(A=torch.ones(2, 3), B=torch.ones(4, 2).half()), "mix F16 and F32"),
        (named(A=torch.ones(2, 3).double(), B=torch.ones(4, 2).double()), "as F64"),
        (lora() | {f"base_model.model.{MODULE}.lora_magnitude_vector": torch.ones(4)}, "hold DoRA"),
        (lora() | {f"base_model.model.{MODULE}.lora_B.bias": torch.ones(4)}, "hold bias"),
        (lora() | {"base_model.model.embed.lora_embedding_A": torch.ones(2, 3)}, "hold adapted embeddings"),
        (lora() | {"lm_head.weight": torch.ones(4)}, "no plain LoRA matrix"),
        (lora() | lora("model.layers.0.self_attn.v_proj"), "adapts q_proj, the weights hold q_proj, v_proj"),
        (named(A=torch.ones(2, 0), B=torch.ones(4, 2)), "damaged"),
        ({}, "no tensors"),
    ],
)
def test_what_is_no_whole_plain_lora_is_refused_with_its_reason(tensors: Tensors, reason: str) -> None:
    with pytest.raises(AdapterInvalid, match=reason):
        check(tensors)


def test_a_module_that_the_config_names_and_the_weights_lack_is_missed() -> None:
    with pytest.raises(AdapterInvalid, match="adapts k_proj, q_proj, the weights hold q_proj"):
        check(lora(), modules=("q_proj", "k_proj"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_one_value_that_is_no_number_is_found_wherever_it_is(dtype: torch.dtype, value: float) -> None:
    for at in range(8):
        tensors = lora(dtype=dtype)
        next(reversed(tensors.values())).view(-1)[at] = value
        with pytest.raises(AdapterInvalid, match=r"lora_B of .* no number"):
            check(tensors)


def test_a_value_that_half_precision_cannot_hold_is_refused() -> None:
    check(named(A=torch.full((2, 3), 65_504.0), B=torch.ones(4, 2)))
    with pytest.raises(AdapterInvalid, match=r"holds 7e\+04, more than half precision"):
        check(named(A=torch.full((2, 3), -7e4), B=torch.ones(4, 2)))


def test_a_value_beyond_the_first_block_is_looked_at_too() -> None:
    tensors = named(A=torch.ones(2, 600_000), B=torch.ones(4, 2))
    next(iter(tensors.values()))[-1, -1] = float("nan")
    with pytest.raises(AdapterInvalid, match="lora_A"):
        check(tensors)


def rewritten(change: Callable[[dict[str, Any]], object]) -> bytes:
    """The bytes of a good LoRA with another header."""
    raw = save(lora())
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + raw[8 + length :]


def shift(header: dict[str, Any]) -> None:
    for info in header.values():
        info["data_offsets"] = [0, info["data_offsets"][1] - info["data_offsets"][0]]


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "not a safetensors file"),
        (b"\x80\x04pickle, and more of it", "not a safetensors file"),
        ((1 << 62).to_bytes(8, "little") + b"{}", "not a safetensors file"),
        ((2).to_bytes(8, "little") + b"[]", "header can't be read"),
        ((2).to_bytes(8, "little") + b"{]", "header can't be read"),
        (save(lora())[:-1], "cut off|damaged"),
        (save(lora()) + b"\0", "speaks of"),
        (rewritten(shift), "damaged"),
        (rewritten(lambda header: next(iter(header.values())).update(shape=[2, -3])), "damaged"),
        (rewritten(lambda header: next(iter(header.values())).update(more=1)), "header can't be read"),
    ],
)
def test_bytes_that_are_no_whole_safetensors_file_are_refused(raw: bytes, reason: str) -> None:
    with pytest.raises(AdapterInvalid, match=reason):
        check_weights(raw, 2, ["q_proj"])


def test_a_name_that_comes_twice_is_refused_for_readers_differ_on_it() -> None:
    info = '{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'
    header = f'{{"a":{info},"a":{info}}}'.encode()
    with pytest.raises(AdapterInvalid, match="header can't be read"):
        read_header(len(header).to_bytes(8, "little") + header + b"\0\0\0\0")


@given(st.binary(max_size=200), st.integers(0, 300), st.booleans())
def test_no_bytes_whatever_raise_anything_else_and_what_passes_can_be_loaded(noise: bytes, at: int, swap: bool) -> None:
    good = bytearray(save(lora()))
    good[at : at + (len(noise) if swap else 0)] = noise
    try:
        check_weights(bytes(good), 2, ["q_proj"])
    except AdapterInvalid:
        return
    assert all(np.isfinite(tensor.float().numpy()).all() for tensor in load(bytes(good)).values())


def base_of(folder: Path, **shapes: tuple[int, int]) -> Path:
    save_file({f"{name}.weight": torch.ones(shape) for name, shape in shapes.items()}, folder / "model.safetensors")
    return folder


def test_a_lora_fits_the_base_whose_module_has_its_inputs_and_outputs(tmp_path: Path) -> None:
    check_fits(check(lora()), base_of(tmp_path, **{MODULE: (4, 3)}))


@pytest.mark.parametrize(
    ("shape", "reason"), [((4, 5), "q_proj has 3 inputs, the base .* has 5"), ((6, 3), "q_proj has 4 outputs")]
)
def test_a_lora_of_a_base_of_another_size_is_refused(tmp_path: Path, shape: tuple[int, int], reason: str) -> None:
    with pytest.raises(AdapterInvalid, match=reason):
        check_fits(check(lora()), base_of(tmp_path, **{MODULE: shape}))


def test_a_layer_that_the_base_does_not_have_is_refused_by_name(tmp_path: Path) -> None:
    more = check(lora() | lora("model.layers.7.self_attn.q_proj"))
    with pytest.raises(AdapterInvalid, match=r"changes model\.layers\.7\.self_attn\.q_proj, which the base"):
        check_fits(more, base_of(tmp_path, **{MODULE: (4, 3)}))


def test_a_base_whose_weights_go_by_other_names_is_left_to_the_proof(tmp_path: Path) -> None:
    check_fits(check(lora()), base_of(tmp_path, **{"transformer.h.0.attn": (9, 9)}))
