"""A real base of random weights, and a real adapter of random weights for it, as a training would leave them."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from msgspec import to_builtins
from peft import LoraConfig, get_peft_model

from models.adapters import MARKER, make_manifest
from models.bases import Base, describe
from models.chat import Chat
from models.loading import load_causal, load_chat
from models.policy import save_adapter
from models.probes import choose_probes, report_probes
from models.settings import PolicySettings, TinySettings
from models.tiny import fresh_model, train_tokenizer
from tests.deploy.candidates import good_report

TEXTS = ("Where is my order?", "I will look it up for you.", "Thank you very much!", "You are welcome.")
RANK, MAX_LENGTH = 2, 96


def make_base(path: Path, max_length: int = MAX_LENGTH, *, talkative: bool = False) -> Base:
    """An untrained Llama with a tokenizer of its own. `talkative`: its replies are as long as they may be."""
    tiny = TinySettings(vocabulary=320, layers=1, width=32)
    conversations = [[{"role": "user", "content": text}] for text in TEXTS]
    tokenizer = train_tokenizer(conversations, tiny.vocabulary, path / "tokenizer")
    model = fresh_model(tokenizer, tiny, max_length)
    if talkative:
        _never_end(model, Chat(tokenizer).end_ids)
    model.save_pretrained(path / "base")
    tokenizer.save_pretrained(path / "base")
    return describe(path / "base", "random")


def _never_end(model: Any, end_ids: Collection[int]) -> None:
    """Every token's embedding, which also says how likely it is next, points one way; those that end a reply the other."""
    with torch.no_grad():
        weights = model.get_input_embeddings().weight
        weights[:, 0] = 10.0
        weights[list(end_ids), 0] = -10.0


def make_adapter(base: Base, folder: Path, *, moved: bool = True, seed: int = 1) -> str:
    """Write a candidate directory for `base` below `folder`; returns its digest. Not `moved`: it changes nothing."""
    chat: Chat = load_chat(base)
    torch.manual_seed(seed)
    config = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    model: Any = get_peft_model(load_causal(base.path), config)
    for name, weights in model.named_parameters():
        if moved and "lora_B" in name:  # peft begins with zeros
            torch.nn.init.normal_(weights)
    fresh = folder / ".fresh"
    (fresh / "adapter").mkdir(parents=True)
    (fresh / "reward_model").mkdir()
    save_adapter(model, base, PolicySettings(lora_rank=RANK), fresh / "adapter")
    manifest = make_manifest(fresh / "adapter", base)
    chosen = choose_probes([], lambda text: len(chat.content(text)))
    probes = report_probes(model, "default", manifest.digest, base, chat, chosen, MAX_LENGTH)
    report = {"digest": manifest.digest} | good_report(probes=probes)
    (fresh / "manifest.json").write_text(json.dumps(to_builtins(manifest)))
    (fresh / "report.json").write_text(json.dumps(report))
    (fresh / MARKER).touch()
    fresh.rename(folder / manifest.digest)
    return manifest.digest
