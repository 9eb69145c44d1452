"""An adapter is trained in one precision and served in another, and proves to be itself in both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from feedback.durable import write_json
from models import loading, policy
from models.adapters import MARKER, make_manifest
from models.bases import Base, describe
from models.engine import LocalEngine
from models.evaluate import load_policies
from models.policy import train_policy
from models.probes import choose_probes, report_probes
from models.proof import Record, powers
from models.settings import PolicySettings
from models.tiny import fresh_model
from tests.models.conftest import TINY
from tests.models.snapshots import pair, said

SETTINGS = PolicySettings(lora_rank=4, epochs=6, batch_size=4, learning_rate=3e-2)


@pytest.fixture
def base(chat: Any, tmp_path: Path) -> Base:
    """An untrained base that is sure of what it says, with weights that bfloat16 would round."""
    path = tmp_path / "base"
    model = fresh_model(chat.tokenizer, TINY, 96)
    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(20)
    model.save_pretrained(path)
    chat.tokenizer.save_pretrained(path)
    return describe(path, "my-model")


def candidate(base: Base, chat: Any, work: Path) -> Path:
    """A candidate's directory, its adapter trained on a few pairs."""
    examples: dict[Any, list[Any]] = {
        "sft": [],
        "kto": [],
        "dpo": [pair(n, "train", said(f"Where is order {n}?"), f"Order {n} left.", "No idea.") for n in range(16)],
    }
    adapter = train_policy(base, chat, examples, SETTINGS, 96, work, lambda step, of: None)
    manifest = make_manifest(adapter, base)
    model = load_policies(base, adapter, None, torch.float32)
    probes = choose_probes([], lambda text: len(chat.content(text)))
    report = {"probes": report_probes(model, "candidate", manifest.digest, base, chat, probes, 96)}
    path = work / manifest.digest
    path.mkdir()
    adapter.rename(path / "adapter")
    write_json(path / "manifest.json", manifest.content)
    write_json(path / "report.json", {"digest": manifest.digest, **report})
    (path / MARKER).touch()
    record = msgspec.convert(report["probes"]["record"], Record)
    assert powers(record)["the adapter"] > record.limits.power
    return path


@pytest.mark.parametrize(
    ("trained", "served"), [(torch.bfloat16, torch.float32), (torch.float32, torch.bfloat16)], ids=str
)
def test_an_adapter_trained_in_one_precision_is_proven_and_served_in_the_other(
    base: Base, chat: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trained: Any, served: Any
) -> None:
    computed = set()
    steps = policy.policy_loss

    def watched(model: Any, *given: Any) -> Any:
        computed.add(model.get_base_model().get_input_embeddings().weight.dtype)
        assert {weights.dtype for weights in model.parameters() if weights.requires_grad} == {torch.float32}
        return steps(model, *given)

    monkeypatch.setattr(policy, "policy_loss", watched)
    monkeypatch.setattr(loading, "_SMALL_BYTES", 1)
    monkeypatch.setattr(loading, "has_bfloat16", lambda: trained == torch.bfloat16)
    path = candidate(base, chat, tmp_path / "work")
    assert computed == {trained}
    engine = LocalEngine(base)
    engine._model = engine._model.to(served)
    engine.load_adapter(path.name, path)
    assert engine.adapters == {path.name}
