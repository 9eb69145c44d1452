"""What one training is asked to do: a JSON file that the trainer writes and `python -m models.job` reads. No torch."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct
from pydantic import BaseModel, ValidationError

from models.errors import JobFailed
from models.settings import BaseModelSettings, PolicySettings, RewardSettings, TinySettings

RESULT = "result.json"
"""Where a training that is done leaves its candidate's digest, beside its checkpoints."""


class TrainingSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that decides a training's result, but for the state directory's own base model."""

    snapshot: str
    """A sealed snapshot directory."""
    state: str
    """The state directory: bases/, candidates/ and work/ are in it."""
    base: BaseModelSettings = BaseModelSettings()
    tiny: TinySettings = TinySettings()
    reward: RewardSettings = RewardSettings()
    policy: PolicySettings = PolicySettings()
    incumbent: str | None = None
    """The candidate directory that is served now; None: the bare base."""
    threads: int = 2
    """Threads of torch: part of the result, because sums over threads round differently."""

    def work(self, dataset_hash: str) -> Path:
        """The directory of this training's checkpoints: the same spec on the same data finds them again."""
        content = json.loads(encode_spec(self))
        content["incumbent"] = Path(self.incumbent).name if self.incumbent else None
        del content["snapshot"], content["state"]
        text = json.dumps({"dataset_hash": dataset_hash, "spec": content}, sort_keys=True)
        return Path(self.state) / "work" / hashlib.sha256(text.encode()).hexdigest()[:32]


def encode_spec(spec: TrainingSpec) -> bytes:
    """The spec as JSON."""
    return msgspec.json.format(msgspec.json.encode(spec, enc_hook=_dump))


def load_spec(path: Path) -> TrainingSpec:
    """The spec in the JSON file `path`; raises JobFailed naming what is wrong with it."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=TrainingSpec, dec_hook=_parse)
    except OSError as error:
        raise JobFailed(f"the training spec {path} can't be read: {error.strerror}") from None
    except (msgspec.DecodeError, ValidationError) as error:
        raise JobFailed(f"{path} is not a training spec: {' '.join(str(error).split())}") from None


def _dump(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    raise NotImplementedError(f"a spec can't hold {type(value).__name__}")


def _parse(kind: type, value: Any) -> Any:
    if issubclass(kind, BaseModel):
        return kind.model_validate(value)
    raise NotImplementedError(f"a spec can't hold {kind.__name__}")
