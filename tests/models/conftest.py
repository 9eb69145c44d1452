"""A tokenizer, and a tiny trained state directory that slow tests share."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from models.settings import BaseModelSettings, PolicySettings, RewardSettings, TinySettings
from models.spec import TrainingSpec, encode_spec
from tests.models.snapshots import seal, support_log

TINY = TinySettings(vocabulary=400, layers=2, width=64, steps=60, batch_tokens=600)


def small_spec(snapshot: Path, state: Path, **changes: Any) -> TrainingSpec:
    """A training that takes seconds."""
    return TrainingSpec(
        snapshot=str(snapshot),
        state=str(state),
        base=BaseModelSettings(max_length=96),
        tiny=TINY,
        reward=RewardSettings(lora_rank=4, epochs=2),
        policy=PolicySettings(lora_rank=4, epochs=2, best_of_prompts=32, sample_tokens=24),
        threads=1,
        **changes,
    )


def shortest_spec(snapshot: Path, state: Path, **changes: Any) -> TrainingSpec:
    """A training of few steps and samples: for what does not depend on how much is learned."""
    steps = {
        "tiny": TINY.model_copy(update={"steps": 20}),
        "reward": RewardSettings(lora_rank=4, epochs=1),
        "policy": PolicySettings(lora_rank=4, epochs=1, best_of_prompts=4, sample_tokens=8),
    }
    return msgspec.structs.replace(small_spec(snapshot, state), **steps, **changes)


def start_job(spec: TrainingSpec | dict[str, Any], path: Path) -> subprocess.Popen[str]:
    """The job as the trainer starts it; with what is no spec too."""
    path.write_bytes(encode_spec(spec) if isinstance(spec, TrainingSpec) else json.dumps(spec).encode())
    command = [sys.executable, "-m", "models.job", str(path)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture(scope="session")
def chat(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The encoding of a tokenizer that was trained on a few support conversations."""
    from feedback.dataset.tables import ServedTurn
    from models.chat import Chat
    from models.tiny import longest_contexts, train_tokenizer

    turns = [record for record in support_log(40) if isinstance(record, ServedTurn)]
    return Chat(train_tokenizer(longest_contexts(turns), 400, tmp_path_factory.mktemp("tokenizer") / "t"))


@pytest.fixture(scope="session")
def model(chat: Any) -> Any:
    """An untrained model for that tokenizer."""
    import torch

    from models.tiny import fresh_model

    torch.set_num_threads(1)
    return fresh_model(chat.tokenizer, TINY, 96).eval()


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A state directory in which one training ran, and its candidate (mark such tests `xdist_group("trained")`)."""
    root = tmp_path_factory.mktemp("trained")
    job = start_job(small_spec(seal(root / "snap", support_log(300)), root / "state"), root / "spec.json")
    out, err = job.communicate(timeout=300)
    assert job.returncode == 0, err
    return root / "state", Path(json.loads(out.splitlines()[-1])["path"])
