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
import os
import re
import stat
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from feedback.durable import canonical, sha256_file
from models.bases import Base
from models.errors import AdapterInvalid as AdapterInvalid
from models.weights import Matrix, check_fits, check_weights, layer_of

MARKER = "_COMPLETE"
WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
MAX_WEIGHT_BYTES = 4 << 30
MAX_JSON_BYTES = 16 << 20
MAX_RANK = 512
MAX_ALPHA = 8_192

_DIGEST = re.compile(r"[0-9a-f]{64}")
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
    "layers_to_transform",
}
_FEATURES = {
    "use_dora": "DoRA (use_dora)",
    "lora_bias": "bias (lora_bias)",
    "modules_to_save": "whole modules (modules_to_save)",
}


class Manifest(Struct, frozen=True, forbid_unknown_fields=True):
    """What an adapter is; its digest is its name."""

    weights_sha256: str
    config_sha256: str
    base_name: str
    base_revision: str
    tokenizer_sha256: str
    chat_template_sha256: str
    format: int = 1
    template_date: str | None = None
    """YYYY-MM-DD: what the chat template said the day was, in training, and says wherever the adapter serves."""

    @property
    def content(self) -> dict[str, Any]:
        """What is kept of it and makes its digest; a date that there is none of is left out, as before there were any."""
        found: dict[str, Any] = msgspec.to_builtins(self)
        return {name: value for name, value in found.items() if value is not None}

    @property
    def digest(self) -> str:
        """64 hex digits."""
        return hashlib.sha256(canonical(self.content)).hexdigest()

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


def adapter_config(
    base: Base, rank: int, alpha: int, target_modules: list[str], layers: list[int] | None = None
) -> dict[str, Any]:
    """peft's configuration of a plain LoRA, without paths, versions or anything else that varies.

    `layers`: the numbers of the layers that it adapts; None: all.
    """
    found = {
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
    return found if layers is None else found | {"layers_to_transform": sorted(layers)}


def make_manifest(adapter: Path, base: Base, template_date: str | None = None) -> Manifest:
    """The manifest of the adapter directory `adapter`, trained on `base`, whose chat template said that it was that day."""
    return Manifest(
        weights_sha256=sha256_file(adapter / WEIGHTS),
        config_sha256=_config_sha256((adapter / CONFIG).read_bytes()),
        base_name=base.name,
        base_revision=base.revision,
        tokenizer_sha256=base.tokenizer_sha256,
        chat_template_sha256=base.chat_template_sha256,
        template_date=template_date,
    )


class Adapter(Struct, frozen=True):
    """A candidate's adapter as it was read, once: these bytes were checked, and these are what an engine gets."""

    manifest: Manifest
    config: bytes
    weights: bytes
    matrices: list[Matrix]

    def check_fits(self, base: Base) -> None:
        """AdapterInvalid where it was trained on another base, or a module of it is not in `base` or is shaped otherwise."""
        if not self.manifest.fits(base):
            raise AdapterInvalid(
                f"adapter {self.manifest.digest[:16]} was trained on {self.manifest.base_name} "
                f"({self.manifest.base_revision[:12]}), not on {base.name} ({base.revision[:12]})"
            )
        check_fits(self.matrices, Path(base.path))

    def write(self, folder: Path) -> None:
        """Write the bytes that were checked into `folder`, in peft's format, each file synced; it must be there."""
        for name, content in ((WEIGHTS, self.weights), (CONFIG, self.config)):
            with (folder / name).open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())


def verify(path: Path, expected_digest: str) -> Manifest:
    """The manifest of the candidate directory `path`, once everything in it has been checked; else AdapterInvalid.

    Pickles, links, executables, unknown files, features beyond plain LoRA, oversize files, values that are no numbers,
    shapes that don't go together and any difference from `expected_digest` (64 hex digits) are refused.
    """
    return read_adapter(path, expected_digest).manifest


def read_adapter(path: Path, expected_digest: str) -> Adapter:
    """The adapter of the candidate directory `path`, checked as `verify` does: each file is read once, then checked."""
    if not _DIGEST.fullmatch(expected_digest):
        raise AdapterInvalid(f"{expected_digest[:80]!r} is not an adapter digest (64 hex digits)")
    try:
        _check_files(path)
        manifest = _read_manifest(path / "manifest.json")
        config = _read_file(path / "adapter" / CONFIG, MAX_JSON_BYTES)
        weights = _read_file(path / "adapter" / WEIGHTS, MAX_WEIGHT_BYTES)
    except OSError as error:
        raise AdapterInvalid(f"{path} can't be read: {error.strerror}: {error.filename}") from None
    content = _json_object(config, CONFIG)
    rank, modules = _check_config(content, manifest.base_name)
    matrices = check_weights(weights, rank, modules)
    _check_layers(content.get("layers_to_transform"), matrices)
    adapter = Adapter(manifest, config, weights, matrices)
    _check_digest(path, adapter, expected_digest)
    return adapter


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


def _read_file(path: Path, most: int) -> bytes:
    """The bytes of one regular file, opened once: what it is and how long is asked of the very file that is read."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > most:
            raise AdapterInvalid(f"{path.name} is no plain file of at most {most} bytes: it was exchanged just now")
        return file.read(most)


def _json_object(raw: bytes, name: str) -> dict[str, Any]:
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        raise AdapterInvalid(f"{name} is not JSON") from None
    if not isinstance(value, dict):
        raise AdapterInvalid(f"{name} is not a JSON object")
    return value


def _read_manifest(path: Path) -> Manifest:
    try:
        manifest = msgspec.json.decode(_read_file(path, MAX_JSON_BYTES), type=Manifest)
        date.fromisoformat(manifest.template_date or "2000-01-01")
    except (msgspec.DecodeError, ValueError) as error:
        raise AdapterInvalid(f"manifest.json is not an adapter's manifest: {error}") from None
    return manifest


def _check_config(config: dict[str, Any], base_name: str) -> tuple[int, list[str]]:
    """Rank and names of the adapted modules."""
    if config.get("peft_type") != "LORA" or config.get("task_type") != "CAUSAL_LM":
        raise AdapterInvalid(f"{CONFIG} does not describe a LoRA of a causal language model")
    for key, value in config.items():
        if key not in _PLAIN_KEYS and value not in (None, False, [], {}, ""):
            raise AdapterInvalid(f"{CONFIG} sets {_FEATURES.get(key, key)}: only plain LoRA can be served")
    if config.get("bias", "none") != "none" or config.get("use_rslora"):
        raise AdapterInvalid(f"{CONFIG} sets bias or use_rslora: only plain LoRA can be served")
    rank, alpha, modules = config.get("r"), config.get("lora_alpha"), config.get("target_modules")
    if isinstance(rank, bool) or not isinstance(rank, int) or not 0 < rank <= MAX_RANK:
        raise AdapterInvalid(f"{CONFIG} has rank {rank!r}: it must lie within 1..{MAX_RANK}")
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not 0 < alpha <= MAX_ALPHA:
        raise AdapterInvalid(f"{CONFIG} has lora_alpha {alpha!r}: it must be a number above 0, at most {MAX_ALPHA}")
    if not isinstance(modules, list) or not all(isinstance(m, str) and m.replace("_", "").isalnum() for m in modules):
        raise AdapterInvalid(f"{CONFIG} must list plain module names in target_modules")
    if (named := config.get("base_model_name_or_path")) != base_name:
        raise AdapterInvalid(f"{CONFIG} names {named!r} as its base, the manifest {base_name!r}: it is of another base")
    return rank, modules


def _check_layers(layers: Any, matrices: list[Matrix]) -> None:
    """`layers`: the numbers of those that the config says are adapted; None: all."""
    adapted = {layer_of(matrix.module) for matrix in matrices}
    if layers is not None and (not isinstance(layers, list) or set(map(str, layers)) != set(map(str, adapted))):
        raise AdapterInvalid(
            f"{CONFIG} adapts the layers {str(layers)[:120]}, the weights other ones: an engine would apply a part of them"
        )


def _check_digest(path: Path, adapter: Adapter, expected: str) -> None:
    manifest = adapter.manifest
    if manifest.digest != expected:
        raise AdapterInvalid(f"{path} has digest {manifest.digest}, not {expected}")
    if hashlib.sha256(adapter.weights).hexdigest() != manifest.weights_sha256:
        raise AdapterInvalid(f"{WEIGHTS} of {path} differs from its manifest: it was changed after training")
    if _config_sha256(adapter.config) != manifest.config_sha256:
        raise AdapterInvalid(f"{CONFIG} of {path} differs from its manifest: it was changed after training")


def _config_sha256(raw: bytes) -> str:
    return hashlib.sha256(canonical(_json_object(raw, CONFIG))).hexdigest()
