import gzip
import json
import os
import stat
from collections import Counter
from pathlib import Path
from typing import Any
from unittest.mock import patch

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feedback import splits
from feedback.dataset import snapshot, window
from feedback.dataset.compute import RULES_VERSION, compute
from feedback.dataset.snapshot import Snapshot, SnapshotError
from feedback.dataset.tables import TABLES, hash_of
from feedback.intake import contract
from feedback.records import Judgement, Pick, Rating, Score, Turn, Unjudged, Verdict
from feedback.settings import WindowSettings
from tests.feedback.builders import (
    AS_OF_US,
    GATE,
    MINUTE_US,
    START_US,
    TRAIN,
    MemoryFacts,
    rating,
    says,
    turn,
    unjudged,
    verdict,
)

Event = Turn | Rating | Judgement

EVENTS: list[Event] = [
    turn("t1", messages=says("where is it?"), reply="here", locale="en"),
    turn("t2", messages=says("where is it?"), reply="there"),
    turn("t3", messages=says("and now, what else?"), reply="gone", bucket=GATE),
    turn("t4", messages=says("hm"), reply="", outcome="error"),
    rating("a", "t1", "thumbs", True),
    rating("b", "t1", "pick", Pick("t2")),
    rating("c", "t2", "edit", "over there", source="expert"),
    rating("d", None, "stars", 4),
    rating("e", "nowhere", "thumbs", False),
    verdict("v", "t3", score=0.25),
]


def seal(directory: Path, *events: Event, as_of_us: int = AS_OF_US) -> Snapshot:
    return snapshot.seal(MemoryFacts(events), as_of_us, WindowSettings(), directory)


def dataset_hash(*events: Event, rules_version: str = RULES_VERSION, **settings: Any) -> str:
    content, _ = compute(MemoryFacts(events), AS_OF_US, WindowSettings(**settings))
    return hash_of(content, AS_OF_US, rules_version)


# What a snapshot holds


def test_a_snapshot_holds_its_tables_and_accounts_for_everything(tmp_path: Path) -> None:
    sealed = seal(tmp_path, *EVENTS)
    assert sorted(path.name for path in sealed.path.iterdir()) == [
        "_SEALED", "demonstrations.parquet", "manifest.json", "pairs.parquet", "turns.parquet", "unpaired.parquet",
    ]  # fmt: skip
    counts = sealed.counts
    assert counts.turns == 4
    assert counts.ratings == {"thumbs": 2, "pick": 1, "edit": 1, "stars": 1}
    assert counts.rating_uses == {"used": 3, "conversation": 1, "orphan": 1}
    assert counts.verdict_uses == {"used": 1}
    assert counts.orphan_ratings == 1
    assert counts.conversation_ratings == {"stars": 1}
    assert (counts.unrated, counts.judged, counts.unjudged) == (2, 1, {"no_judge": 1})
    assert counts.untrainable == {"outcome_error": 1}
    assert (counts.dropped, counts.in_window) == ({}, 3)
    assert (counts.pairs, counts.unpaired, counts.demonstrations) == (
        {"pick": 1, "edit": 1},
        {"thumbs": 1, "verdict": 1},
        1,
    )
    assert counts.sources == {"user": 2, "expert": 2, "judge": 1}
    assert counts.splits["turns"] == {"train": 2, "gate": 1}
    assert sealed.manifest.rows == {"pairs": 2, "unpaired": 2, "demonstrations": 1, "turns": 3}
    assert sealed.manifest.window == WindowSettings().model_dump()
    assert sealed.manifest.erasures == []


def test_columns_are_the_fields_of_the_records(tmp_path: Path) -> None:
    pairs = pq.read_table(seal(tmp_path, *EVENTS).path / "pairs.parquet")
    assert pairs.column_names == [
        "id", "prompt", "chosen", "rejected", "how", "preference", "weight", "split", "tenant", "conversation_id",
        "turn_id", "locale", "provenance", "source",
    ]  # fmt: skip
    row = next(row for row in pairs.to_pylist() if row["how"] == "pick")
    assert json.loads(row["prompt"]) == says("where is it?")
    assert json.loads(row["provenance"])["event_ids"] == ["b"]
    assert row["source"] == "user"


def test_records_read_back_are_those_that_were_sealed(tmp_path: Path) -> None:
    sealed = seal(tmp_path, *EVENTS)
    (first, second) = snapshot.read(sealed.path, "pairs")
    assert first.id < second.id
    assert {(pair.how, pair.chosen, pair.provenance.rater) for pair in (first, second)} == {
        ("pick", "here", "hashed user"),
        ("edit", "over there", "hashed user"),
    }
    assert [turn.turn_id for turn in snapshot.read(sealed.path, "turns")] == ["t1", "t2", "t3"]


def test_the_turns_of_tenants_that_share_ids_are_apart(tmp_path: Path) -> None:
    sealed = seal(tmp_path, turn("t1"), turn("t1", tenant="other"), rating("a", "t1", "thumbs", True),
                  rating("a", "t1", "thumbs", False, tenant="other"))  # fmt: skip
    assert {(label.tenant, label.desirable) for label in snapshot.read(sealed.path, "unpaired")} == {
        ("default", 1.0),
        ("other", 0.0),
    }
    assert len({label.id for label in snapshot.read(sealed.path, "unpaired")}) == 2


def test_no_facts_make_an_empty_snapshot(tmp_path: Path) -> None:
    sealed = seal(tmp_path)
    assert set(sealed.manifest.rows.values()) == {0}
    assert snapshot.verify(sealed.path) == sealed.manifest


def test_verdicts_beyond_the_judges_share_are_left_out_and_counted(tmp_path: Path) -> None:
    asked: list[Event] = [turn(f"t{i}", messages=says(f"question {i}")) for i in range(10)]
    verdicts: list[Event] = [verdict(f"v{i}", f"t{i}", score=0.9) for i in range(1, 10)]
    counts = seal(tmp_path, *asked, *verdicts, rating("a", "t0", "thumbs", True)).counts
    assert counts.unpaired == {"thumbs": 1, "verdict": 2}
    assert counts.verdict_uses == {"used": 2, "over_judge_share": 7}


def test_unrated_turns_without_a_verdict_are_counted_by_the_latest_reason(tmp_path: Path) -> None:
    events: list[Event] = [turn("t1"), turn("t2"), turn("t3"), turn("t4"), unjudged("u1", "t1", "budget"), unjudged("u2", "t2", "budget"),
              rating("a", "t2", "thumbs", True), unjudged("u3", "t3", "timeout")]  # fmt: skip
    assert seal(tmp_path, *events).counts.unjudged == {"budget": 1, "timeout": 1, "no_judge": 1}


# The directory


def test_sealing_twice_is_one_snapshot(tmp_path: Path) -> None:
    first = seal(tmp_path, *EVENTS)
    before = (first.path / "manifest.json").stat().st_mtime_ns
    again = seal(tmp_path, *reversed(EVENTS), *EVENTS)
    assert again.path == first.path
    assert (first.path / "manifest.json").stat().st_mtime_ns == before
    assert [path.name for path in tmp_path.iterdir()] == [first.name]


def test_the_name_tells_the_moment_and_the_hash(tmp_path: Path) -> None:
    sealed = seal(tmp_path, *EVENTS)
    assert sealed.name == f"20231121T205320Z-{sealed.dataset_hash[7:19]}"


def test_a_snapshot_names_its_predecessor(tmp_path: Path) -> None:
    first = seal(tmp_path, *EVENTS)
    second = seal(tmp_path, *EVENTS, as_of_us=AS_OF_US + 1_000_000)
    assert first.manifest.predecessor is None
    assert second.manifest.predecessor is not None
    assert second.manifest.predecessor.dataset_hash == first.dataset_hash
    assert snapshot.list_snapshots(tmp_path) == [first.manifest, second.manifest]


def test_a_seal_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        seal(tmp_path, *EVENTS)
    assert list(tmp_path.iterdir()) == []
    assert snapshot.list_snapshots(tmp_path) == []


def test_everything_is_on_disk_before_the_snapshot_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        synced.append(path.name if stat.S_ISREG(os.fstat(descriptor).st_mode) else "directory")
        assert not list(tmp_path.glob("2*")) or synced[-1] == "directory"
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    seal(tmp_path, *EVENTS)
    assert sorted(synced[:5]) == [
        "demonstrations.parquet",
        "manifest.json",
        "pairs.parquet",
        "turns.parquet",
        "unpaired.parquet",
    ]
    assert synced[5:] == ["_SEALED", "directory", "directory"]


def test_a_directory_without_the_marker_is_no_snapshot(tmp_path: Path) -> None:
    sealed = seal(tmp_path, *EVENTS)
    (sealed.path / "_SEALED").unlink()
    assert snapshot.list_snapshots(tmp_path) == []
    with pytest.raises(SnapshotError, match="no sealed snapshot"):
        snapshot.load_manifest(sealed.path)
    with pytest.raises(SnapshotError, match="no sealed snapshot"):
        seal(tmp_path, *EVENTS)


def test_an_unreadable_manifest_is_an_error_that_names_it(tmp_path: Path) -> None:
    sealed = seal(tmp_path, *EVENTS)
    (sealed.path / "manifest.json").write_text('{"format": 1}')
    with pytest.raises(SnapshotError, match=sealed.name):
        snapshot.load_manifest(sealed.path)


def test_a_later_format_is_refused(tmp_path: Path) -> None:
    sealed = seal(tmp_path, *EVENTS)
    later = msgspec.structs.replace(sealed.manifest, format=2)
    (sealed.path / "manifest.json").write_bytes(msgspec.json.encode(later))
    with pytest.raises(SnapshotError, match="format 2"):
        snapshot.load_manifest(sealed.path)


def test_verify_finds_a_changed_row(tmp_path: Path) -> None:
    sealed = seal(tmp_path, *EVENTS)
    assert snapshot.verify(sealed.path) == sealed.manifest
    file = sealed.path / "unpaired.parquet"
    rows = pq.read_table(file)
    pq.write_table(pa.Table.from_pylist([{**row, "desirable": 0.5} for row in rows.to_pylist()], rows.schema), file)
    with pytest.raises(SnapshotError, match="was changed after it was sealed"):
        snapshot.verify(sealed.path)


def test_verify_finds_a_changed_manifest_and_a_broken_table(tmp_path: Path) -> None:
    sealed = seal(tmp_path, *EVENTS)
    manifest = (sealed.path / "manifest.json").read_bytes()
    (sealed.path / "manifest.json").write_bytes(manifest.replace(b'"orphan": 1', b'"orphan": 2'))
    with pytest.raises(SnapshotError, match="manifest"):
        snapshot.verify(sealed.path)
    (sealed.path / "manifest.json").write_bytes(manifest)
    (sealed.path / "turns.parquet").write_bytes(b"no parquet")
    with pytest.raises(SnapshotError, match="can't be read"):
        snapshot.verify(sealed.path)


def test_diff_counts_added_removed_and_changed_rows(tmp_path: Path) -> None:
    before = seal(
        tmp_path, turn("t1"), turn("t2"), rating("a", "t1", "thumbs", True), rating("b", "t2", "thumbs", True)
    )
    after = seal(
        tmp_path, turn("t1"), turn("t3"), rating("a", "t1", "thumbs", False), rating("c", "t3", "thumbs", True)
    )
    change = snapshot.diff(before.path, after.path)
    assert (change["turns"].added, change["turns"].removed, change["turns"].changed) == (1, 1, 0)
    assert (change["unpaired"].added, change["unpaired"].removed, change["unpaired"].changed) == (1, 1, 1)
    assert change["pairs"] == snapshot.Change(0, 0, 0)


def test_export_writes_every_row_as_a_line_of_json(tmp_path: Path) -> None:
    sealed = seal(tmp_path, *EVENTS)
    lines = [json.loads(line) for line in snapshot.export(sealed.path)]
    assert Counter(line["table"] for line in lines) == Counter(sealed.manifest.rows)
    assert [line["chosen"] for line in lines if line.get("how") == "edit"] == ["over there"]
    with pytest.raises(SnapshotError, match="csv"):
        next(snapshot.export(sealed.path, "csv"))


# What the hash depends on

TURN_IDS = st.sampled_from(["t1", "t2", "t3", "t4"])
TIMES = st.integers(0, 6).map(lambda minute: START_US + minute * MINUTE_US)
USERS = st.sampled_from(["alice", "bob", None])
EVENT_IDS = st.integers(0, 30).map(str)
CONTEXTS = st.sampled_from(["where is it?", "where is it please?", "something quite different"]).map(says)
VALUES = st.one_of(
    st.tuples(st.just("thumbs"), st.sampled_from([True, False, None])),
    st.tuples(st.just("stars"), st.sampled_from([1, 3, 5, None])),
    st.tuples(st.just("pick"), st.one_of(st.none(), st.builds(Pick, TURN_IDS, st.booleans()))),
    st.tuples(st.just("edit"), st.sampled_from(["better", "reply 1", None])),
    st.tuples(st.just("signal"), st.sampled_from(["regenerate", "copy", None])),
    st.tuples(
        st.just("score"), st.one_of(st.none(), st.builds(Score, st.sampled_from(["csat", "solved"]), st.just(0.5)))
    ),
    st.tuples(st.just("comment"), st.just("hm")),
)


@st.composite
def turns(draw: st.DrawFn) -> Turn:
    user = draw(USERS)
    return turn(
        draw(TURN_IDS),
        event_id="s" + draw(EVENT_IDS),
        occurred_at_us=draw(TIMES),
        messages=draw(CONTEXTS),
        reply=draw(st.sampled_from(["reply 1", "reply 2", ""])),
        user_id=user,
        bucket=splits.bucket(user or "c1", "default"),
        replaces=draw(st.one_of(st.none(), TURN_IDS)),
        locale=draw(st.sampled_from(["en", "de"])),
    )


@st.composite
def ratings(draw: st.DrawFn) -> Rating:
    kind, value = draw(VALUES)
    of_turn = draw(TURN_IDS) if kind in contract.NEEDS_TURN else draw(st.one_of(st.none(), TURN_IDS))
    source = draw(st.sampled_from(["user", "expert", "system"]))
    changes = {"source": source, "user_id": draw(USERS), "occurred_at_us": draw(TIMES)}
    return rating("r" + draw(EVENT_IDS), of_turn, kind, value, **changes)


@st.composite
def judgements(draw: st.DrawFn) -> Verdict | Unjudged:
    verdict_id, turn_id, at_us = "v" + draw(EVENT_IDS), draw(TURN_IDS), draw(TIMES)
    if draw(st.booleans()):
        return unjudged(verdict_id, turn_id, draw(st.sampled_from(["budget", "timeout"])), occurred_at_us=at_us)
    value = draw(st.sampled_from([0.1, 0.5, 0.9]))
    if draw(st.booleans()):
        return verdict(verdict_id, turn_id, score=value, occurred_at_us=at_us)
    return verdict(verdict_id, turn_id, other_turn_id=draw(TURN_IDS), preference=value, occurred_at_us=at_us)


HISTORIES = st.tuples(
    st.lists(turns(), min_size=1, max_size=8), st.lists(ratings(), max_size=12), st.lists(judgements(), max_size=4)
).map(lambda parts: [*parts[0], *parts[1], *parts[2]])

TIGHT: dict[str, Any] = {
    "max_per_user": 2,
    "max_exchanges": 3,
    "max_per_prompt": 2,
    "max_user_edits": 1,
    "max_judge_share": 0.5,
}


@settings(max_examples=200)
@given(HISTORIES, st.data())
def test_any_order_with_any_duplicates_is_the_same_dataset(events: list[Event], data: st.DataObject) -> None:
    again = data.draw(st.lists(st.sampled_from(events), max_size=6))
    shuffled = data.draw(st.permutations([*events, *again]))
    assert dataset_hash(*shuffled, **TIGHT) == dataset_hash(*events, **TIGHT)


@settings(max_examples=200)
@given(HISTORIES)
def test_the_key_that_user_ids_are_hashed_with_does_not_show(events: list[Event]) -> None:
    def rekeyed(event: Event) -> Event:
        if isinstance(event, Turn | Rating) and event.user_id is not None:
            return msgspec.structs.replace(event, user_id={"alice": "zz", "bob": "aa"}[event.user_id])
        return event

    assert dataset_hash(*map(rekeyed, events), **TIGHT) == dataset_hash(*events, **TIGHT)


@settings(max_examples=200)
@given(HISTORIES)
def test_every_event_is_accounted_for_once(events: list[Event]) -> None:
    content, counts = compute(MemoryFacts(events), AS_OF_US, WindowSettings(**TIGHT))
    given_ratings = {event.event_id for event in events if isinstance(event, Rating)}
    served = {event.event_id for event in events if isinstance(event, Turn)}
    assert sum(counts.ratings.values()) == sum(counts.rating_uses.values()) == len(given_ratings)
    assert counts.turns == counts.in_window + sum(counts.dropped.values()) + sum(counts.untrainable.values())
    assert counts.duplicates + len(given_ratings) + len(served) == sum(isinstance(e, Turn | Rating) for e in events)
    assert counts.unrated >= sum(counts.unjudged.values()) >= counts.unrated - counts.judged
    assert min([0, *counts.rating_uses.values(), *counts.verdict_uses.values()]) == 0
    ids = [row["id"] for table in TABLES if table != "turns" for row in content[table]]
    assert len(ids) == len(set(ids))


@settings(max_examples=200)
@given(HISTORIES)
def test_how_many_texts_are_looked_at_changes_nothing_where_no_two_are_alike(events: list[Event]) -> None:
    tight = WindowSettings(max_exchanges=1, max_per_prompt=100, near_duplicate=1.0, max_per_user=1)
    apart = [msgspec.structs.replace(e, bucket=TRAIN) if isinstance(e, Turn) else e for e in events]
    content, counts = compute(MemoryFacts(apart), AS_OF_US, tight)
    with patch.object(window, "ROOM_BEFORE_TEXTS", 100):
        same, more = compute(MemoryFacts(apart), AS_OF_US, tight)
    assert same == content
    assert (counts.rating_uses, counts.verdict_uses) == (more.rating_uses, more.verdict_uses)


@settings(max_examples=100)
@given(HISTORIES, TIMES)
def test_what_comes_after_as_of_does_not_matter(events: list[Event], as_of_us: int) -> None:
    past = [event for event in events if event.occurred_at_us <= as_of_us]
    assert compute(MemoryFacts(events), as_of_us, WindowSettings()) == compute(
        MemoryFacts(past), as_of_us, WindowSettings()
    )


@pytest.mark.parametrize(
    "changed",
    [
        [*EVENTS, turn("t5")],
        EVENTS[:-1],
        [*EVENTS[:-1], verdict("v", "t3", score=0.26)],
        [*EVENTS, rating("z", "t1", "thumbs", False, occurred_at_us=AS_OF_US)],
    ],
    ids=["another turn", "no verdict", "another score", "a late rating"],
)
def test_the_hash_covers_what_was_said(changed: list[Event]) -> None:
    assert dataset_hash(*changed) != dataset_hash(*EVENTS)


def test_the_hash_covers_the_moment_and_the_rules(tmp_path: Path) -> None:
    assert dataset_hash(*EVENTS, rules_version="0") != dataset_hash(*EVENTS)
    assert seal(tmp_path, *EVENTS, as_of_us=AS_OF_US + 1).dataset_hash != dataset_hash(*EVENTS)


def test_the_hash_of_a_known_dataset_never_changes_within_a_rules_version() -> None:
    # If a rule was meant to change, raise RULES_VERSION and write the new hash down.
    assert (RULES_VERSION, dataset_hash(*EVENTS)[:23]) == ("2", "sha256:d6b5469ce8d2dc46")


# Real conversations, where they are at hand

REAL = Path(__file__).parents[4] / "shared" / "data" / "convai2" / "events.jsonl.gz"


@pytest.mark.slow
@pytest.mark.skipif(not REAL.exists(), reason="the recorded conversations are not on this machine")
def test_recorded_conversations_are_sealed_whole(tmp_path: Path) -> None:
    events: list[Event] = []
    with gzip.open(REAL) as lines:
        for line in lines:
            event = contract.parse(line, 2 * 10**15)
            assert isinstance(event, Turn | Rating)
            unit = event.user_id or event.conversation_id
            events.append(msgspec.structs.replace(event, bucket=splits.bucket(unit, event.tenant)))
    as_of_us = max(event.occurred_at_us for event in events)
    sealed = seal(tmp_path, *events, as_of_us=as_of_us)
    counts = sealed.counts
    assert (counts.turns, counts.ratings) == (6_714, {"thumbs": 1_256, "stars": 416})
    assert counts.conversation_ratings == {"stars": 416}
    assert counts.unpaired["thumbs"] + counts.rating_uses.get("outside_window", 0) == 1_256
    assert counts.unjudged == {"no_judge": 5_458}
    assert counts.in_window > 6_000
    assert seal(tmp_path, *reversed(events), as_of_us=as_of_us).path == sealed.path
    snapshot.verify(sealed.path)
