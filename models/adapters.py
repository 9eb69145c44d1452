"""The adapter store: candidates named by what is in them, checked at every load. No torch.

    candidates/<64 hex digest>/
        adapter/adapter_model.safetensors, adapter/adapter_config.json     peft's format, plain LoRA
        reward_model/…                                                     what was learned of the labels
        report.json     manifest.json     _COMPLETE                        the marker is written last

The digest is the sha256 of the canonical manifest: weights, config, base, tokenizer and chat template.
"""

from __future__ import annotations

import hashlib
import json
import re
import stat
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from feedback.durable import canonical, sha256_file
from models.bases import Base

MARKER = "_COMPLETE"
WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
MAX_WEIGHT_BYTES = 4 << 30
MAX_JSON_BYTES = 16 << 20
MAX_RANK = 512

_DIGEST = re.compile(r"[0-9a-f]{64}")
_LORA_TENSOR = re.compile(r"base_model\.model\.[A-Za-z0-9_.]+\.lora_[AB]\.weight")
_FLOATS = {"F32", "F16", "BF16"}
_EXPECTED = {"adapter", "reward_model", "report.json", "manifest.json", MARKER}
_FILE_SUFFIXES = {".json", ".safetensors", ""}
_PLAIN_KEYS = {
    "peft_type",
    "task_type",
    "r",
    "lora_alpha",
    "lora_dropout",
    "target_modules",
    "bias",
    "base_model_name_or_path",
    "revision",
    "inference_mode",
    "fan_in_fan_out",
    "use_rslora",
}


class AdapterInvalid(Exception):
    """This candidate must not be loaded; the message says why."""


class Manifest(Struct, frozen=True, forbid_unknown_fields=True):
    """What an adapter is; its digest is its name."""

    weights_sha256: str
    config_sha256: str
    base_name: str
    base_revision: str
    tokenizer_sha256: str
    chat_template_sha256: str
    format: int = 1

    @property
    def digest(self) -> str:
        """64 hex digits."""
        return hashlib.sha256(canonical(msgspec.to_builtins(self))).hexdigest()

    def fits(self, base: Base) -> bool:
        """Whether the adapter was trained on this base, with this tokenizer and chat template."""
        return (self.base_name, self.base_revision, self.tokenizer_sha256, self.chat_template_sha256) == (
            base.name,
            base.revision,
            base.tokenizer_sha256,
            base.chat_template_sha256,
        )


def engine_name(digest: str) -> str:
    """The name by which an engine knows an adapter."""
    return f"tt-{digest[:16]}"


def adapter_config(base: Base, rank: int, alpha: int, target_modules: list[str]) -> dict[str, Any]:
    """peft's configuration of a plain LoRA, without paths, versions or anything else that varies."""
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": rank,
        "lora_alpha": alpha,
        "lora_dropout": 0.0,
        "target_modules": sorted(target_modules),
        "bias": "none",
        "base_model_name_or_path": base.name,
        "revision": base.revision,
        "inference_mode": True,
        "fan_in_fan_out": False,
    }


def make_manifest(adapter: Path, base: Base) -> Manifest:
    """The manifest of the adapter directory `adapter`, trained on `base`."""
    return Manifest(
        weights_sha256=sha256_file(adapter / WEIGHTS),
        config_sha256=_config_sha256(adapter / CONFIG),
        base_name=base.name,
        base_revision=base.revision,
        tokenizer_sha256=base.tokenizer_sha256,
        chat_template_sha256=base.chat_template_sha256,
    )


def verify(path: Path, expected_digest: str) -> Manifest:
    """The manifest of the candidate directory `path`, once everything in it has been checked; else AdapterInvalid.

    Pickles, links, executables, unknown files, features beyond plain LoRA, oversize files and any difference from
    `expected_digest` (64 hex digits) are refused.
    """
    if not _DIGEST.fullmatch(expected_digest):
        raise AdapterInvalid(f"{expected_digest[:80]!r} is not an adapter digest (64 hex digits)")
    try:
        _check_files(path)
        manifest = _read_manifest(path / "manifest.json")
        _check_config(_read_json(path / "adapter" / CONFIG))
        _check_tensors(path / "adapter" / WEIGHTS)
        _check_digest(path, manifest, expected_digest)
    except OSError as error:
        raise AdapterInvalid(f"{path} can't be read: {error.strerror}: {error.filename}") from None
    return manifest


def _check_files(path: Path) -> None:
    if path.is_symlink() or not path.is_dir():
        raise AdapterInvalid(f"{path} is not a candidate directory")
    if not (path / MARKER).is_file():
        raise AdapterInvalid(f"{path} is incomplete: it has no {MARKER}")
    for extra in sorted({file.name for file in path.iterdir()} - _EXPECTED):
        raise AdapterInvalid(f"{path} holds {extra!r}, which is no part of a candidate")
    for file, mode, size in _walk(path):
        name = file.relative_to(path)
        if file.suffix not in _FILE_SUFFIXES or (not file.suffix and file.name != MARKER):
            raise AdapterInvalid(f"{name} is refused: a candidate holds .safetensors and .json files only")
        if mode & 0o111:
            raise AdapterInvalid(f"{name} is executable: a candidate holds data only")
        if size > (MAX_WEIGHT_BYTES if file.suffix == ".safetensors" else MAX_JSON_BYTES):
            raise AdapterInvalid(f"{name} has {size} bytes, more than a candidate's file may have")
    found = {file.name for file in (path / "adapter").iterdir()}
    if found != {WEIGHTS, CONFIG}:
        raise AdapterInvalid(
            f"adapter/ must hold {WEIGHTS} and {CONFIG}, it holds {', '.join(sorted(found)) or 'nothing'}"
        )


def _walk(path: Path) -> Iterator[tuple[Path, int, int]]:
    """Every file below with its mode and size; anything that is neither file nor directory is refused."""
    for file in sorted(path.rglob("*")):
        status = file.lstat()
        if stat.S_ISREG(status.st_mode):
            yield file, status.st_mode, status.st_size
        elif not stat.S_ISDIR(status.st_mode):
            raise AdapterInvalid(f"{file.relative_to(path)} is a link or a special file")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        raise AdapterInvalid(f"{path.name} is not JSON") from None
    if not isinstance(value, dict):
        raise AdapterInvalid(f"{path.name} is not a JSON object")
    return value


def _read_manifest(path: Path) -> Manifest:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Manifest)
    except msgspec.DecodeError as error:
        raise AdapterInvalid(f"manifest.json is not an adapter's manifest: {error}") from None


def _check_config(config: dict[str, Any]) -> None:
    if config.get("peft_type") != "LORA" or config.get("task_type") != "CAUSAL_LM":
        raise AdapterInvalid(f"{CONFIG} does not describe a LoRA of a causal language model")
    for key, value in config.items():
        if key not in _PLAIN_KEYS and value not in (None, False, [], {}, ""):
            raise AdapterInvalid(f"{CONFIG} sets {key}: only plain LoRA can be served")
    if config.get("bias", "none") != "none" or config.get("use_rslora"):
        raise AdapterInvalid(f"{CONFIG} sets bias or use_rslora: only plain LoRA can be served")
    rank, modules = config.get("r"), config.get("target_modules")
    if not isinstance(rank, int) or not 0 < rank <= MAX_RANK:
        raise AdapterInvalid(f"{CONFIG} has rank {rank!r}: it must lie within 1..{MAX_RANK}")
    if not isinstance(modules, list) or not all(isinstance(m, str) and m.replace("_", "").isalnum() for m in modules):
        raise AdapterInvalid(f"{CONFIG} must list plain module names in target_modules")


def _check_tensors(path: Path) -> None:
    """The safetensors header names LoRA matrices of floats, and nothing else."""
    with path.open("rb") as file:
        prefix = file.read(8)
        length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else 0
        if not 0 < length <= MAX_JSON_BYTES:
            raise AdapterInvalid(f"{WEIGHTS} is not a safetensors file")
        try:
            header = json.loads(file.read(length))
            tensors = {name: value["dtype"] for name, value in header.items() if name != "__metadata__"}
        except (ValueError, AttributeError, TypeError, KeyError, RecursionError):
            raise AdapterInvalid(f"{WEIGHTS} is not a safetensors file") from None
    if not tensors:
        raise AdapterInvalid(f"{WEIGHTS} holds no tensors")
    for name, dtype in tensors.items():
        if not _LORA_TENSOR.fullmatch(name) or dtype not in _FLOATS:
            raise AdapterInvalid(f"{WEIGHTS} holds {name[:120]!r} ({dtype}), which is no plain LoRA matrix")


def _check_digest(path: Path, manifest: Manifest, expected: str) -> None:
    if manifest.digest != expected:
        raise AdapterInvalid(f"{path} has digest {manifest.digest}, not {expected}")
    if sha256_file(path / "adapter" / WEIGHTS) != manifest.weights_sha256:
        raise AdapterInvalid(f"{WEIGHTS} of {path} differs from its manifest: it was changed after training")
    if _config_sha256(path / "adapter" / CONFIG) != manifest.config_sha256:
        raise AdapterInvalid(f"{CONFIG} of {path} differs from its manifest: it was changed after training")


def _config_sha256(path: Path) -> str:
    return hashlib.sha256(canonical(_read_json(path))).hexdigest()
