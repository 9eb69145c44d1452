"""How long a training's examples may be, and what is told of those that are longer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from feedback.dataset.tables import ServedTurn
from feedback.records import Demonstration, PreferencePair, UnpairedLabel
from models.bases import Base
from models.chat import Chat
from models.errors import JobFailed
from models.job import check_labels
from models.lengths import choose_length, cut, fit_lengths, fit_replies, measure
from models.snapshot import SnapshotData
from models.tiny import longest_contexts, train_tokenizer
from tests.models.snapshots import common, pair, said, thumb, turn

CASE = Path(__file__).parent / "cases" / "pairs-that-differ-late.jsonl"


def data_of(*records: Any) -> SnapshotData:
    def of(kind: type) -> list[Any]:
        return [record for record in records if isinstance(record, kind)]

    return SnapshotData("snap", "0" * 64, of(PreferencePair), of(UnpairedLabel), of(Demonstration), of(ServedTurn))


def base_of(path: Path, config: dict[str, Any], tokenizer: dict[str, Any] | None = None) -> Base:
    (path / "config.json").write_text(json.dumps(config))
    (path / "tokenizer_config.json").write_text(json.dumps(tokenizer or {}))
    return Base(str(path), "some-base", "r", "t", "c")


def late_pairs() -> list[PreferencePair]:
    """Edits that change the last words only, behind a long system message."""
    events = [json.loads(line) for line in CASE.read_text().splitlines()]
    edits = {event["turn_id"]: event["value"] for event in events if event.get("kind") == "edit"}
    turns = [event for event in events if event["event"] == "turn"]
    return [
        pair(number, "train", event["messages"], edits[event["turn_id"]], event["reply"])
        for number, event in enumerate(turns)
    ]


@pytest.fixture(scope="module")
def late(tmp_path_factory: pytest.TempPathFactory) -> tuple[Chat, SnapshotData]:
    pairs = late_pairs()
    turns = [turn(n, "train", x.prompt, x.rejected) for n, x in enumerate(pairs)]
    tokenizer = train_tokenizer(longest_contexts(turns), 400, tmp_path_factory.mktemp("tokenizer") / "t")
    return Chat(tokenizer), data_of(*pairs)


def test_pairs_that_differ_late_are_whole_at_the_length_that_follows_from_them(
    late: tuple[Chat, SnapshotData], tmp_path: Path
) -> None:
    chat, data = late
    left, lengths = fit_lengths(chat, data, base_of(tmp_path, {"max_position_embeddings": 8_192}), None)
    cuts = lengths.cuts["train"]
    assert len(left.pairs) == len(data.pairs) == 60
    assert (cuts.examples, cuts.whole, cuts.pairs_dropped) == (60, 60, 0)
    assert 256 < lengths.max_length <= 1_024
    assert lengths.chosen_by == "data"
    assert lengths.not_learned == []


def test_pairs_whose_difference_has_no_room_are_dropped_and_told(
    late: tuple[Chat, SnapshotData], tmp_path: Path
) -> None:
    chat, data = late
    left, lengths = fit_lengths(chat, data, base_of(tmp_path, {"max_position_embeddings": 128}), None)
    assert lengths.max_length == 128
    assert left.pairs == []
    assert lengths.cuts["train"].pairs_dropped == 60
    (sentence,) = lengths.not_learned
    assert sentence.startswith("60 of 60 pairs: their replies differ only beyond what has room in 128 tokens")


@pytest.mark.parametrize("length", [64, 96, 128, 200, 256, 400, 700])
def test_no_pair_that_is_left_is_the_same_twice(late: tuple[Chat, SnapshotData], length: int) -> None:
    chat, data = late
    left, cuts = cut(chat, data, length)
    for x in left.pairs:
        chosen, rejected = fit_replies(chat, x.prompt, [x.chosen, x.rejected], length)
        assert chosen != rejected
    assert len(left.pairs) + cuts["train"].pairs_dropped == 60


def test_a_reply_is_cut_last(chat: Chat) -> None:
    prompt = [{"role": "system", "content": "Be kind."}, *said("old " * 30), *said("Where is it?")]
    reply = "I have looked up order 12 and will help you with it right away."
    whole = chat.reply(reply, 1_000)
    length = len(whole) + chat.needed(prompt, 1_000)
    assert fit_replies(chat, prompt, [reply], length) == [whole]
    fitted = chat.fit(prompt, length - len(whole))
    assert (fitted.dropped, fitted.system_cut, fitted.last_cut) == (1, False, False)
    assert fit_replies(chat, prompt, [reply], length - 1) == [whole[:-1]]


def test_each_cut_is_counted(chat: Chat) -> None:
    system = [{"role": "system", "content": "Be kind. " * 40}]
    data = data_of(
        thumb(0, "train", said("Where?"), "Here.", True),
        thumb(1, "train", [*said("old " * 100), *said("older"), *said("Where?")], "Here.", True),
        thumb(2, "train", [*system, *said("Where?")], "Here.", True),
        thumb(3, "gate", said("Where? " * 100), "Here.", True),
        thumb(4, "gate", said("Where?"), "Here. " * 100, True),
    )
    _, cuts = cut(chat, data, 96)
    told = {name: {k: n for k, n in msgspec.to_builtins(found).items() if n} for name, found in cuts.items()}
    assert told["train"] == {"examples": 3, "whole": 1, "history_cut": 1, "messages_dropped": 1, "system_cut": 1}
    assert told["gate"] == {"examples": 2, "last_message_cut": 1, "replies_cut": 1}
    assert told["calibrate"] == {}


def test_empty_replies_are_told_and_those_of_one_token_are_learned_from(chat: Chat, tmp_path: Path) -> None:
    data = data_of(*[thumb(n, "train", said("Where?"), "" if n else "a", True) for n in range(4)])
    _, lengths = fit_lengths(chat, data, base_of(tmp_path, {}), None)
    assert lengths.not_learned == ["3 of 4 replies: they are empty, and no policy learns from them"]
    assert lengths.cuts["train"].whole == 4


@pytest.mark.parametrize("demonstrations", [0, 20])
def test_a_snapshot_whose_every_pair_is_cut_away_is_refused_in_a_sentence(
    late: tuple[Chat, SnapshotData], tmp_path: Path, demonstrations: int
) -> None:
    chat, data = late
    shown = [
        Demonstration(id=f"demo-{n}", prompt=said("Where?"), reply="Here.", **common(n, "train"))
        for n in range(demonstrations)
    ]
    data = msgspec.structs.replace(data, demonstrations=shown)
    left, lengths = fit_lengths(chat, data, base_of(tmp_path, {"max_position_embeddings": 128}), None)
    with pytest.raises(JobFailed, match=r"can't be learned from: 60 of 60 pairs: .* \(raise base.max_length"):
        check_labels(left, lengths)


def test_a_snapshot_whose_every_reply_is_empty_is_refused_in_a_sentence(chat: Chat, tmp_path: Path) -> None:
    data = data_of(*[thumb(n, "train", said("Where?"), "", True) for n in range(20)])
    left, lengths = fit_lengths(chat, data, base_of(tmp_path, {}), None)
    with pytest.raises(JobFailed, match="can't be learned from: 20 of 20 replies: they are empty"):
        check_labels(left, lengths)


def test_thumbs_are_learned_from_where_every_pair_is_cut_away(late: tuple[Chat, SnapshotData], tmp_path: Path) -> None:
    chat, data = late
    data = msgspec.structs.replace(data, labels=[thumb(n, "train", said("Where?"), "Here.", True) for n in range(20)])
    left, lengths = fit_lengths(chat, data, base_of(tmp_path, {"max_position_embeddings": 128}), None)
    check_labels(left, lengths)
    assert len(lengths.not_learned) == 1


def test_short_data_keeps_the_length_that_it_had(chat: Chat) -> None:
    data = data_of(*[thumb(n, "train", said("Where?"), "Here.", True) for n in range(20)])
    assert choose_length(None, 8_192, "b", measure(chat, data)) == 256
    assert choose_length(None, 128, "b", measure(chat, data)) == 128


def test_a_setting_is_taken_and_refused_beyond_what_the_base_reads() -> None:
    assert choose_length(512, None, "b", []) == choose_length(512, 512, "b", []) == 512
    with pytest.raises(JobFailed, match="max_length is 512, and the base model b reads 511 tokens at most: lower it"):
        choose_length(512, 511, "b", [])


def test_a_base_that_reads_next_to_nothing_is_refused_in_a_sentence() -> None:
    with pytest.raises(JobFailed, match="some-base reads 16 tokens at most, a training needs 33: choose another"):
        choose_length(None, 16, "some-base", [])
