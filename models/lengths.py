"""How long prompt and reply together may be in a training, and what of a snapshot that cuts; told in the report. No torch.

The length follows what the base reads and what the snapshot holds: the smallest that leaves 95 of 100 examples whole. Pairs
whose replies differ only beyond it teach nothing, and go.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from feedback.records import Demonstration, Message, PreferencePair, UnpairedLabel
from feedback.texts import is_blank
from models.bases import Base
from models.chat import Chat
from models.context import context_of
from models.cutting import reply_room
from models.errors import JobFailed
from models.settings import TINY_LENGTH
from models.snapshot import SnapshotData

if TYPE_CHECKING:
    from models.batches import Row

LEAST = TINY_LENGTH
"""What is reckoned with at least: shorter data is not worth a length of its own."""
MOST = 1_024
"""What is reckoned with at most where nobody says more: memory grows with it."""
_FEWEST = 33  # tokens of a context in which anything can be learned
_WHOLE = 0.95
_STEP = 64
_MEASURED = 4_000  # of the newest examples; more would say the same

Example = PreferencePair | UnpairedLabel | Demonstration


class Cuts(Struct):
    """Examples of one split, how many of them lost what, and the pairs that were dropped since they had become the same."""

    examples: int = 0
    whole: int = 0
    history_cut: int = 0
    messages_dropped: int = 0
    system_cut: int = 0
    last_message_cut: int = 0
    replies_cut: int = 0
    pairs: int = 0
    pairs_dropped: int = 0


class Lengths(Struct, frozen=True):
    """The length in tokens, what the base reads at most (None: it does not say), and what was cut, by split."""

    max_length: int
    context: int | None
    chosen_by: str
    """`setting`, or `data`."""
    cuts: dict[str, Cuts]
    not_learned: list[str]
    """A sentence for each thing that this training could not learn from."""


def fit_lengths(chat: Chat, data: SnapshotData, base: Base, setting: int | None) -> tuple[SnapshotData, Lengths]:
    """The length of this training, and the snapshot without the pairs that are the same at it. Raises JobFailed."""
    context = context_of(base)
    max_length = choose_length(setting, context, base.name, [] if setting else measure(chat, data))
    left, cuts = cut(chat, data, max_length)
    found = Lengths(
        max_length, context, "setting" if setting else "data", cuts, not_learned(data, cuts["train"], max_length)
    )
    return left, found


def fit_replies(chat: Chat, prompt: Sequence[Message], replies: Sequence[str], max_length: int) -> list[list[int]]:
    """Ids of replies with what ends them, so long that the prompt's system and last message keep their room."""
    whole = [chat.reply(reply, max_length) for reply in replies]
    if max(map(len, whole)) <= reply_room(max_length, max_length):
        return whole
    room = reply_room(max_length, chat.needed(prompt, max_length))
    return [ids[:room] for ids in whole]


def encode(chat: Chat, prompt: Sequence[Message], replies: Sequence[str], max_length: int) -> Row:
    """Ids of a prompt and replies to it, together at most `max_length` for each reply."""
    encoded = fit_replies(chat, prompt, replies, max_length)
    return chat.prompt(prompt, max_length - max(map(len, encoded))), encoded


def choose_length(setting: int | None, context: int | None, name: str, lengths: Sequence[int]) -> int:
    """The setting; or the smallest length that leaves 95 of 100 of these `lengths` whole, of 256 to 1,024 tokens.

    Neither is beyond the context. Raises JobFailed where the setting is, or the context is next to nothing.
    """
    if context is not None and context < _FEWEST:
        raise JobFailed(
            f"the base model {name} reads {context} tokens at most, a training needs {_FEWEST}: choose another"
        )
    if setting is not None:
        if context is not None and setting > context:
            raise JobFailed(
                f"base.max_length is {setting}, and the base model {name} reads {context} tokens at most: lower it, or leave it out"
            )
        return setting
    return min(suffices(lengths), context or MOST)


def suffices(lengths: Sequence[int]) -> int:
    """The smallest length, in steps of 64 from 256 to 1,024, that leaves 95 of 100 of these whole.

    >>> suffices([30] * 95 + [5_000] * 5), suffices([300] * 100), suffices([5_000])
    (256, 320, 1024)
    """
    ordered = sorted(lengths)
    wanted = ordered[math.ceil(_WHOLE * len(ordered)) - 1] if ordered else LEAST
    return min(MOST, max(LEAST, -(-wanted // _STEP) * _STEP))


def measure(chat: Chat, data: SnapshotData) -> list[int]:
    """Tokens of prompt and longest reply of the newest examples of the train split; of no more than 1,025 each."""
    examples = sorted(_of(data, "train"), key=lambda x: (-x.provenance.at_us, x.id))[:_MEASURED]
    most = MOST + 1
    return [
        min(most, len(chat.prompt(x.prompt, most)) + max(len(chat.reply(r, most)) for r in _replies(x)))
        for x in examples
    ]


def cut(chat: Chat, data: SnapshotData, max_length: int) -> tuple[SnapshotData, dict[str, Cuts]]:
    """The snapshot without the pairs that are the same once they are cut, and what was cut, by split."""
    found: dict[str, Cuts] = {}
    lost = set[str]()
    for split in ("train", "calibrate", "gate"):
        found[split] = cuts = Cuts()
        for example in _of(data, split):
            if not _count(cuts, chat, example, max_length):
                lost.add(example.id)
    pairs = [pair for pair in data.pairs if pair.id not in lost]
    return msgspec.structs.replace(data, pairs=pairs), found


def not_learned(data: SnapshotData, cuts: Cuts, max_length: int) -> list[str]:
    """What the train split holds and can't teach, a sentence each."""
    found = []
    if cuts.pairs_dropped:
        found.append(
            f"{cuts.pairs_dropped} of {cuts.pairs} pairs: their replies differ only beyond what has room in "
            f"{max_length} tokens (raise base.max_length, or name a base that reads more)"
        )
    replies = [reply for x in _of(data, "train") for reply in _replies(x)]
    empty = sum(map(is_blank, replies))
    if empty:
        found.append(f"{empty} of {len(replies)} replies: they are empty, and no policy learns from them")
    return found


def teaches(data: SnapshotData) -> bool:
    """Whether the train split has a pair or a label for the reward model, and a reply that is not empty for the policy."""
    rated = any(not isinstance(x, Demonstration) for x in _of(data, "train"))
    return rated and any(not any(map(is_blank, _replies(x))) for x in _of(data, "train"))


def _count(cuts: Cuts, chat: Chat, example: Example, max_length: int) -> bool:
    """Count one example in; False for a pair that teaches nothing any more."""
    replies = _replies(example)
    encoded = fit_replies(chat, example.prompt, replies, max_length)
    fitted = chat.fit(example.prompt, max_length - max(map(len, encoded)))
    ending = chat.closing
    short = any(ids[-len(ending) :] != ending for ids in encoded)
    cuts.examples += 1
    cuts.pairs += isinstance(example, PreferencePair)
    cuts.history_cut += fitted.dropped > 0
    cuts.messages_dropped += fitted.dropped
    cuts.system_cut += fitted.system_cut
    cuts.last_message_cut += fitted.last_cut
    cuts.replies_cut += short
    cuts.whole += not (short or fitted.dropped or fitted.system_cut or fitted.last_cut)
    same = short and len(encoded) > 1 and encoded[0] == encoded[1]
    cuts.pairs_dropped += same
    return not same


def _of(data: SnapshotData, split: str) -> Iterable[Example]:
    for rows in (data.pairs, data.labels, data.demonstrations):
        yield from (x for x in rows if x.split == split and x.weight > 0)


def _replies(example: Example) -> list[str]:
    return [example.chosen, example.rejected] if isinstance(example, PreferencePair) else [example.reply]
