"""The base model: a directory in Hugging Face format that adapters are trained on. No torch.

`tiny` is trained here, once per state directory (models/tiny.py), `smollm2` is fetched and converted once
(models/smollm2.py); any other name is a local directory or is fetched from the hub. Only safetensors are read, and no code that comes with a model is run.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from msgspec import Struct

from feedback.durable import canonical, sha256_file
from models.errors import AdapterInvalid, JobFailed
from models.settings import TINY_LENGTH, BaseModelSettings, TinySettings
from models.weights import header_of, layer_of

TINY = "tiny"
SMOLLM2 = "smollm2"
MARKER = "_COMPLETE"
_POINTER = "tiny-of-"
_WANTED = [
    "*.safetensors",
    "*.safetensors.index.json",
    "config.json",
    "generation_config.json",
    "tokenizer*",
    "*.jinja",
]
_WANTED += ["special_tokens_map.json", "vocab.json", "merges.txt"]

_IMPLEMENTATION = re.compile(r"_?(attn|experts)_implementation(_internal)?")
_LAYERS = ("num_hidden_layers", "n_layer", "num_layers")


class Base(Struct, frozen=True):
    """A base model at hand, and what an adapter's digest says of it."""

    path: str
    name: str
    """`tiny-<12 hex>`, `smollm2-<12 hex>`, a Hugging Face name, or the name of a local directory."""
    revision: str
    """The hub's commit, else the sha256 of the weights and the config."""
    tokenizer_sha256: str
    chat_template_sha256: str

    @property
    def tiny(self) -> bool:
        """Whether it was trained here, and so knows nothing but the log."""
        return re.fullmatch(rf"{TINY}-[0-9a-f]{{12}}", self.name) is not None


def find_base(settings: BaseModelSettings, tiny: TinySettings, state: Path, *, local: bool = False) -> Base | None:
    """The base that these settings name; None when it is `tiny` or `smollm2` and has yet to be made in `state`. `local`: nothing
    is fetched.

    Raises JobFailed when it is not there, can't be fetched, or is not safe to load.
    """
    if settings.name == SMOLLM2:
        return find_smollm2(state)
    if settings.name != TINY:
        return describe(_fetch(settings, local), settings.name)
    pointer = tiny_pointer(settings, tiny, state)
    if not pointer.exists():
        return None
    path = pointer.parent / json.loads(pointer.read_bytes())["directory"]
    if not (path / MARKER).exists():
        raise JobFailed(
            f"the tiny base {path} is gone or incomplete: restore it, or remove {pointer} to train a new one"
        )
    return describe(path, path.name)


def served_base(settings: BaseModelSettings, tiny: TinySettings, state: Path) -> Base | None:
    """As `find_base`, for whoever serves it: where `tiny` was trained, but with other settings, JobFailed says which."""
    base = find_base(settings, tiny, state)
    if settings.name != TINY:
        return base
    earlier = sorted((state / "bases").glob(f"{_POINTER}*.json"), key=lambda path: path.stat().st_mtime)
    if base is None and earlier:
        raise JobFailed(
            f"there is no tiny base of these settings, but one of others: {_differences(settings, tiny, earlier[-1])}. Set that "
            f"back, or run `trimtab train`, which trains another"
        )
    return base


def local_base(settings: BaseModelSettings, tiny: TinySettings, state: Path) -> Base | None:
    """As `find_base`, of what is on this machine already: None where it is not, or can't be used."""
    try:
        return find_base(settings, tiny, state, local=True)
    except JobFailed:
        return None


def find_smollm2(state: Path) -> Base | None:
    """SmolLM2 as it was converted in this state directory; None where it was not, or is gone (it is converted again)."""
    try:
        path = state / "bases" / json.loads(smollm2_pointer(state).read_bytes())["directory"]
    except FileNotFoundError:
        return None
    return describe(path, path.name) if (path / MARKER).exists() else None


def smollm2_pointer(state: Path) -> Path:
    """The file that names it, so that a version that converts otherwise takes the one that adapters were trained on."""
    return state / "bases" / f"{SMOLLM2}.json"


def tiny_pointer(settings: BaseModelSettings, tiny: TinySettings, state: Path) -> Path:
    """The file that names the tiny base of these settings, so that later trainings take the same one."""
    return (
        state / "bases" / f"{_POINTER}{hashlib.sha256(canonical(tiny_content(settings, tiny))).hexdigest()[:12]}.json"
    )


def tiny_content(settings: BaseModelSettings, tiny: TinySettings) -> dict[str, Any]:
    """The settings that a tiny base is made by."""
    return {"max_length": settings.max_length or TINY_LENGTH, **tiny.model_dump(mode="json")}


def _differences(settings: BaseModelSettings, tiny: TinySettings, pointer: Path) -> str:
    now = tiny_content(settings, tiny)
    try:
        then = json.loads(pointer.read_bytes())["settings"]
        found = [
            f"{'base' if key == 'max_length' else 'tiny'}.{key} is {value}, and was {then[key]}"
            for key, value in now.items()
            if then[key] != value
        ]
    except (OSError, ValueError, KeyError, TypeError):  # of a version that did not note them
        found = []
    return ", ".join(found) or "[tiny] or base.max_length was changed"


def describe(path: Path, name: str) -> Base:
    """The base in the directory `path`; raises JobFailed when a file is missing or weights are not safetensors."""
    config, tokenizer = path / "config.json", path / "tokenizer.json"
    weights = sorted(path.glob("*.safetensors"))
    for missing in [file for file in (config, tokenizer) if not file.is_file()]:
        raise JobFailed(f"the base model {path} has no {missing.name}: it must be a Hugging Face directory")
    if not weights:
        raise JobFailed(f"the base model {path} has no .safetensors weights: convert it (pickled weights are refused)")
    _check_config(_config(config), path, weights)
    template = chat_template(path)
    if not template:
        raise JobFailed(f"the base model {path} has no chat template: choose an instruction-tuned base")
    return Base(
        str(path),
        Path(name).name if Path(name).is_dir() else name,
        _revision(path, [config, *weights]),
        sha256_file(tokenizer),
        hashlib.sha256(template.encode()).hexdigest(),
    )


def _revision(path: Path, files: list[Path]) -> str:
    if path.parent.name == "snapshots" and len(path.name) == 40:  # the hub's cache names directories by commit
        return path.name
    return hashlib.sha256(canonical({file.name: sha256_file(file) for file in files})).hexdigest()


def _config(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_bytes())
    except (ValueError, RecursionError):
        raise JobFailed(f"{file} is not JSON: restore it") from None
    if not isinstance(found, dict):
        raise JobFailed(f"{file} is not a JSON object: restore it")
    return found


def _check_config(config: dict[str, Any], path: Path, weights: list[Path]) -> None:
    """JobFailed where whoever loads it would fetch code, or build layers that have no weights: a billion of them, say."""
    if kernel := next(_foreign(config), None):
        raise JobFailed(
            f"the base model {path} wants the attention {kernel}, which is code to be fetched and run: take that out of its "
            f"config.json, or choose another base"
        )
    told = [part.get(name) for part in _parts(config) for name in _LAYERS]
    layers = max((number for number in told if isinstance(number, int)), default=1)
    if layers < 1 or layers > (_weighed_layers(weights) or layers):
        raise JobFailed(
            f"the config.json of the base model {path} tells of {layers} layers, its weights hold "
            f"{_weighed_layers(weights)}: restore the one or the other"
        )


def _parts(value: Any) -> Iterator[dict[str, Any]]:
    """The object itself, and every one inside it."""
    waiting = [value]
    while waiting:
        found = waiting.pop()
        if isinstance(found, dict):
            yield found
        waiting += found.values() if isinstance(found, dict) else found if isinstance(found, list) else ()


def _foreign(config: dict[str, Any]) -> Iterator[str]:
    """Kernels of some repository (`owner/name`) that the config asks for."""
    asked = [v for part in _parts(config) for name, v in part.items() if _IMPLEMENTATION.fullmatch(name)]
    named = [name for value in asked for name in (value.values() if isinstance(value, dict) else [value])]
    yield from (name for name in named if isinstance(name, str) and "/" in name)


def _weighed_layers(weights: list[Path]) -> int:
    """How many layers there are weights of; 0 where they go by names that do not say."""
    try:
        numbers = [layer_of(name) for file in weights for name in header_of(file)]
    except (AdapterInvalid, OSError):
        raise JobFailed(f"the weights in {weights[0].parent} are not safetensors files: restore them") from None
    return max((number + 1 for number in numbers if number is not None), default=0)


def chat_template(path: Path) -> str | None:
    """The chat template that comes with the base in the directory `path`; None where none does."""
    if (path / "chat_template.jinja").is_file():
        return (path / "chat_template.jinja").read_text(encoding="utf-8")
    try:
        config: dict[str, Any] = json.loads((path / "tokenizer_config.json").read_bytes())
    except (OSError, ValueError):
        return None
    template = config.get("chat_template")
    if isinstance(template, list):  # by name: those for tools and documents are none for a conversation
        template = next(
            (one.get("template") for one in template if isinstance(one, dict) and one.get("name") == "default"), None
        )
    return template if isinstance(template, str) else None


def _fetch(settings: BaseModelSettings, local: bool) -> Path:
    if Path(settings.name).is_dir():
        return Path(settings.name).absolute()
    if settings.name.startswith((".", "/", "~")):
        raise JobFailed(f"there is no base model directory {settings.name}: correct base.name, or use `tiny`")
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils.tqdm import disable_progress_bars

    disable_progress_bars()
    try:
        revision = settings.revision
        fetched = snapshot_download(settings.name, revision=revision, allow_patterns=_WANTED, local_files_only=local)
        return Path(fetched)
    except Exception as error:  # the hub client raises dozens of kinds, its HTTP client's among them
        raise JobFailed(
            f"the base model {settings.name} can't be fetched ({type(error).__name__}): check base.name and the network, "
            f"name a local directory, or use `tiny`"
        ) from None
