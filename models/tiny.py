"""The `tiny` base: a small Llama with a byte-level BPE of its own, trained on the train split of a snapshot.

For machines without a hub, demonstrations and tests. It learns to answer as the logged assistants did: whole
conversations, loss on the assistants' messages only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from feedback.dataset.tables import ServedTurn
from feedback.durable import canonical, sha256_file, staged, write_json
from feedback.records import Message
from models.bases import MARKER, TINY, Base, describe, tiny_content, tiny_pointer
from models.batches import lay_out_text, plan_by_tokens, reply_logps
from models.chat import TINY_MARKERS, TINY_TEMPLATE, Chat, plain
from models.errors import JobFailed
from models.lengths import suffices
from models.loop import Report, train
from models.losses import sft
from models.settings import BaseModelSettings, TinySettings

Pieces = list[tuple[list[int], bool]]

_HEAD_WIDTH = 32
_MIN_TURNS = 8


def train_tiny(
    turns: Sequence[ServedTurn], base: BaseModelSettings, tiny: TinySettings, state: Path, work: Path, report: Report
) -> Base:
    """Train the tiny base on the train split of `turns` and keep it in `state`/bases; checkpoints go to `work`."""
    conversations = longest_contexts([turn for turn in turns if turn.split == "train"])
    answered = sum(any(message["role"] == "assistant" for message in messages) for messages in conversations)
    if answered < _MIN_TURNS:
        raise JobFailed(
            f"the snapshot's train split has {answered} conversations with a reply that is not empty, a tiny base needs "
            f"{_MIN_TURNS}: replay more of the log, or name another base"
        )
    tokenizer = train_tokenizer(conversations, tiny.vocabulary, work / "tokenizer")
    chat = Chat(tokenizer)
    length = base.max_length or suffices([_tokens(chat.conversation(messages)) for messages in conversations])
    sequences = [window for messages in conversations for window in windows(chat, messages, length)]
    plan = plan_by_tokens([_tokens(s) for s in sequences], tiny.batch_tokens, tiny.steps, seed=0)
    model = fresh_model(tokenizer, tiny, length)
    train(
        model,
        plan,
        lambda batch: lay_out_text([sequences[n] for n in batch], tokenizer.pad_token_id),
        lambda m, batch: sft(reply_logps(m, batch), batch["lengths"], torch.ones_like(batch["lengths"])),
        work / "checkpoints",
        learning_rate=tiny.learning_rate,
        seed=0,
        report=report,
    )
    return _keep(model, tokenizer, tiny_pointer(base, tiny, state), tiny_content(base, tiny))


def longest_contexts(turns: Sequence[ServedTurn]) -> list[list[Message]]:
    """Each conversation once: its turn with the most messages, with that turn's reply."""
    longest: dict[str, ServedTurn] = {}
    for turn in turns:
        known = longest.get(turn.conversation_id)
        if known is None or _size(turn) > _size(known):
            longest[turn.conversation_id] = turn
    chosen = sorted(longest.items())
    return [plain([*turn.prompt, {"role": "assistant", "content": turn.reply}]) for _, turn in chosen]


def windows(chat: Chat, messages: list[Message], max_tokens: int) -> list[Pieces]:
    """A conversation as sequences of at most `max_tokens`, cut between messages; those without a target go."""
    found: list[Pieces] = []
    current: Pieces = []
    for message in messages:
        pieces = chat.conversation([message])
        room = max_tokens - sum(len(ids) for ids, _ in current)
        if current and sum(len(ids) for ids, _ in pieces) > room:
            found.append(current)
            current, room = [], max_tokens
        for ids, target in pieces:
            current.append((ids[:room], target))
            room -= len(ids[:room])
    found.append(current)
    return [pieces for pieces in found if any(target and ids for ids, target in pieces)]


def _tokens(pieces: Pieces) -> int:
    return sum(len(ids) for ids, _ in pieces)


def _size(turn: ServedTurn) -> tuple[int, int, str]:
    return len(turn.prompt), turn.occurred_at_us, turn.turn_id


def train_tokenizer(conversations: list[list[Message]], vocabulary: int, path: Path) -> Any:
    """The tokenizer kept in `path`; trained on these conversations if it is not there yet."""
    if not path.exists():
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocabulary,
            special_tokens=list(TINY_MARKERS),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        texts = [message["content"] for messages in conversations for message in messages]
        tokenizer.train_from_iterator(texts, trainer)
        fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<|pad|>", eos_token="<|end|>")  # noqa: S106
        fast.chat_template = TINY_TEMPLATE
        with staged(path.parent) as fresh:
            fast.save_pretrained(fresh.path)
            fresh.publish(path.name)
    return AutoTokenizer.from_pretrained(path)


def fresh_model(tokenizer: Any, tiny: TinySettings, max_length: int) -> Any:
    """An untrained Llama of these sizes for this tokenizer."""
    torch.manual_seed(0)
    heads = max(1, tiny.width // _HEAD_WIDTH)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=tiny.width,
        intermediate_size=-(-tiny.width * 8 // 3 // 64) * 64,
        num_hidden_layers=tiny.layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=max_length,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    return LlamaForCausalLM(config)


def _keep(model: Any, tokenizer: Any, pointer: Path, settings: dict[str, Any]) -> Base:
    with staged(pointer.parent) as fresh:
        model.save_pretrained(fresh.path)
        tokenizer.save_pretrained(fresh.path)
        content = {path.name: sha256_file(path) for path in fresh.path.iterdir()}
        path = fresh.publish(f"{TINY}-{hashlib.sha256(canonical(content)).hexdigest()[:12]}", MARKER)
    write_json(pointer, {"directory": path.name, "settings": settings})
    return describe(path, path.name)
