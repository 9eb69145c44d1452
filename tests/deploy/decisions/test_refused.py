"""Candidates that no user may ever see: each is refused by name before anybody is served by it.

Real bases, real adapters and the measures of the training job; what is no whole adapter does not come into the list, what answers
badly comes in and is rejected, though it has won its comparisons.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from msgspec import to_builtins
from safetensors.numpy import load_file, save_file

from deploy.control.store import Control
from deploy.decisions.operations import Operations
from deploy.errors import Failed, Refused
from deploy.rules.names import short
from deploy.settings import Settings
from models.adapters import CONFIG, WEIGHTS, Manifest, make_manifest
from models.bases import Base
from models.chat import Chat
from models.evaluate import Sample, describe_samples
from models.loading import load_chat
from tests.deploy.candidates import make_candidate
from tests.deploy.decisions.approving import approve
from tests.deploy.real_models import make_adapter, make_base
from tests.fakes import CLOCK

ENGLISH = [
    "Your parcel left the warehouse this morning and will be at your door tomorrow before noon.",
    "Please send us a photograph of the broken lamp, and we will replace it without any charge.",
    "The refund was paid out on Tuesday; your bank may take two more working days to book it.",
]
SPANISH = [
    "Su paquete salió del almacén esta mañana y llegará mañana a su casa antes del mediodía.",
    "Por favor, envíenos una fotografía de la lámpara rota y se la cambiaremos sin ningún coste.",
    "El reembolso se pagó el martes; su banco puede tardar todavía dos días laborables en abonarlo.",
]
LOOPS = ["we will look into it and " * 6] * 3


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return make_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def chat(base: Base) -> Chat:
    return load_chat(base)


def test_an_adapter_that_changes_nothing_is_rejected(judged_rules: Operations, folder: Path, base: Base) -> None:
    digest = make_adapter(base, folder, moved=False)
    assert _rejected(judged_rules, digest) == [
        "no-op: the adapter moves no probe by more than 0 nats per token (floor 0.001)"
    ]


def _of_another_base(adapter: Path) -> None:
    config = json.loads((adapter / CONFIG).read_text())
    (adapter / CONFIG).write_text(json.dumps(config | {"base_model_name_or_path": "llama"}))


def _truncated(adapter: Path) -> None:
    raw = (adapter / WEIGHTS).read_bytes()
    (adapter / WEIGHTS).write_bytes(raw[: len(raw) // 2])


def _not_numbers(adapter: Path) -> None:
    tensors = load_file(adapter / WEIGHTS)
    name = next(name for name in tensors if "lora_B" in name)
    tensors[name] = np.full_like(tensors[name], np.nan)
    save_file(tensors, adapter / WEIGHTS)


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (_of_another_base, "it is of another base"),
        (_truncated, "they are cut off"),
        (_not_numbers, "no number"),
    ],
)
def test_what_is_no_whole_adapter_of_its_base_is_told_by_name_and_never_listed(
    judged_rules: Operations, control: Control, folder: Path, base: Base, spoil: Callable[[Path], None], sentence: str
) -> None:
    """As a training gone wrong would leave it: the digest is that of the spoiled files, so that it is they that are refused."""
    digest = _named_anew(folder, make_adapter(base, folder), base, spoil)
    (problem,) = judged_rules.discover()
    assert problem.startswith(f"{short(digest)} can't be used: ")
    with pytest.raises(Failed, match=sentence):
        judged_rules.register(digest)
    assert judged_rules.candidates() == []
    assert control.routing().candidate is None


def test_a_whole_adapter_of_another_base_is_told_by_name_and_never_listed(
    control: Control, folder: Path, base: Base, tmp_path: Path
) -> None:
    other = make_base(tmp_path / "other", talkative=True)
    rules = Operations(control, Settings, folder, CLOCK, served=lambda: base)
    digest = make_adapter(other, folder)
    (problem,) = rules.discover()
    assert problem == (
        f"{short(digest)} can't be used: adapter {digest[:16]} was trained on random ({other.revision[:12]}), not on random "
        f"({base.revision[:12]})"
    )
    assert rules.candidates() == []


def _named_anew(folder: Path, digest: str, base: Base, spoil: Callable[[Path], None]) -> str:
    spoil(folder / digest / "adapter")
    manifest: Manifest = make_manifest(folder / digest / "adapter", base)
    (folder / digest / "manifest.json").write_text(json.dumps(to_builtins(manifest)))
    (folder / digest).rename(folder / manifest.digest)
    return manifest.digest


@pytest.mark.parametrize(
    ("replies", "sentence"),
    [
        (LOOPS, "repetition: 0.82 of the word 3-grams in sampled replies repeat (limit 0.50)"),
        (
            SPANISH,
            "language: 0% of sampled replies are in the prompt's language, the incumbent's 100% (largest drop 10%)",
        ),
    ],
)
def test_what_answers_in_loops_or_in_another_language_is_rejected(
    judged_rules: Operations, folder: Path, chat: Chat, replies: list[str], sentence: str
) -> None:
    asked = "Where is my parcel? I ordered it last week and nobody has written to me since."
    samples = [
        Sample([{"role": "user", "content": asked}], None, ours, theirs)
        for ours, theirs in zip(replies, ENGLISH, strict=True)
    ]
    stats = {side: to_builtins(describe_samples(chat, samples, side)) for side in ("candidate", "incumbent")}  # type: ignore[arg-type]
    assert sentence in _rejected(judged_rules, make_candidate(folder, sample_stats=stats))


def _rejected(rules: Operations, digest: str) -> list[str]:
    """The reasons of one that was registered and rejected, and that nobody can approve, whatever they insist on."""
    view = rules.register(digest)
    assert (view["state"], view["share"]) == ("rejected", 0)
    with pytest.raises(Refused):
        approve(rules, digest, override_hold=True)
    assert rules.serving()["rollout"] is None
    reasons: list[str] = view["gate"]["reasons"]
    return [reason for reason in reasons if not reason.startswith("win rate")]
