"""A replay accounts for every line, changes nothing the second time, and may be killed at any moment."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import random
import time
from collections import Counter
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deploy.control.store import open_control
from deploy.errors import Failed
from deploy.parts import open_log
from deploy.replay.intake import Intake
from deploy.replay.run import run
from deploy.settings import Settings
from deploy.state import State, open_state
from deploy.training.train import newest_event_us, seal_now
from feedback.dataset import snapshot
from feedback.digests import edit_digest
from feedback.facts.reader import Facts
from feedback.intake.edge import Record
from feedback.records import JudgeRequest, Unjudged, Verdict
from feedback.topics import DEAD_LETTERS, JUDGE_REQUESTS, VERDICTS
from streams import dead_letters
from streams.log import Log, scan
from tests.deploy.commands import FORKED, ROOT, SAMPLE, answer, part_of_sample, trimtab
from tests.fakes import CLOCK
from tests.judge_server import Answer, judge_server, prefers, scores

CONVAI2 = ROOT.parent / "shared" / "data" / "convai2" / "events.jsonl.gz"


def event(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "event": "turn", "event_id": f"e{number}", "conversation_id": f"c{number % 4}", "turn_id": f"t{number}",
        "occurred_at": 1_767_268_800 + number, "messages": [{"role": "user", "content": f"question {number}"}],
        "reply": f"answer {number}", "policy": "p", **changes,
    }  # fmt: skip


def rating(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "event": "rating", "event_id": f"r{number}", "conversation_id": f"c{number % 4}", "turn_id": f"t{number}",
        "occurred_at": 1_767_268_900 + number, "source": "user", "kind": "thumbs", "value": True, **changes,
    }  # fmt: skip


def write(path: Path, lines: list[bytes]) -> Path:
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


def dump(*documents: dict[str, Any]) -> list[bytes]:
    return [json.dumps(document).encode() for document in documents]


def replayed(root: Path, *files: Path, **configuration: Any) -> tuple[Intake, str]:
    """What a replay into `root` took in, and the hash of what it sealed ("" without any event)."""
    state, configured = open_state(root), Settings(**configuration)
    control = open_control(state.control)
    taken = asyncio.run(run(files, state, configured, control, CLOCK, lambda *_: None))
    try:
        sealed = seal_now(state, configured, newest_event_us(Facts(state.facts)))
    except Failed:
        return taken, ""
    return taken, sealed.dataset_hash


@pytest.mark.slow
def test_the_sample_log_is_accounted_for_line_by_line(tmp_path: Path) -> None:
    lines = [line for line in gzip.decompress(SAMPLE.read_bytes()).splitlines() if line.strip()]
    account = answer("replay", SAMPLE, "--no-train", cwd=tmp_path)
    assert account["events"] == len(lines)
    assert account["events"] == (
        account["turns"]
        + sum(account["ratings"].values())
        + account["duplicates"]
        + sum(account["dead_letters"].values())
    )
    assert sum(account["dead_letters"].values()) == 5
    assert account["orphan_ratings"] == 1
    assert (tmp_path / ".trimtab").stat().st_mode & 0o777 == 0o700


@pytest.mark.slow
def test_a_second_replay_shows_only_duplicates_and_changes_nothing(tmp_path: Path) -> None:
    log = part_of_sample(tmp_path)
    first, first_hash = replayed(tmp_path / "s", log)
    second, second_hash = replayed(tmp_path / "s", log)
    assert second_hash == first_hash
    assert (second.turns, second.ratings) == (0, {})
    assert second.dead_letters == first.dead_letters
    assert second.duplicates == first.events - sum(first.dead_letters.values())


def test_a_line_that_was_refused_before_is_named_again_and_not_stored_again(tmp_path: Path) -> None:
    bad = [b"{no json", b"{no json", dump(event(1, reply=7))[0]]
    file = write(tmp_path / "1.jsonl", [*bad, *dump(event(2))])
    accounts = [replayed(tmp_path / "s", file)[0].dead_letters for _ in range(3)]
    assert accounts == [{"bad_json": 2, "wrong_type": 1}] * 3
    log = open_log(open_state(tmp_path / "s"), Settings(), CLOCK)
    assert [letter.line for letter in dead_letters.read(log)] == [1, 2, 3]
    assert len(list(scan(log, DEAD_LETTERS))) == 3
    dead_letters.purge(log, dead_letters.read(log))
    assert replayed(tmp_path / "s", file)[0].dead_letters == accounts[0]
    assert len(list(scan(log, DEAD_LETTERS))) == 3, "what was purged is refused anew"


@pytest.mark.kafka
def test_through_kafka_it_is_the_same_dataset(tmp_path: Path, kafka_servers: str, prefix: str) -> None:
    log = part_of_sample(tmp_path)
    _, embedded = replayed(tmp_path / "s", log)
    for _ in range(2):
        broker = {"url": f"kafka://{kafka_servers}", "prefix": prefix}
        taken, through_kafka = replayed(tmp_path / "k", log, broker=broker)
        assert through_kafka == embedded
    assert (taken.turns, taken.ratings) == (0, {})


@pytest.mark.slow
def test_shuffled_lines_into_a_fresh_directory_give_the_same_dataset(tmp_path: Path) -> None:
    lines = gzip.decompress(SAMPLE.read_bytes()).splitlines()
    random.Random(3).shuffle(lines)
    half = len(lines) // 2
    one, two = write(tmp_path / "1.jsonl", lines[:half]), write(tmp_path / "2.jsonl", lines[half:])
    assert replayed(tmp_path / "a", SAMPLE)[1] == replayed(tmp_path / "b", one, two)[1]


def test_one_id_with_two_payloads_is_a_duplicate_and_the_dataset_does_not_depend_on_the_order(tmp_path: Path) -> None:
    lines = dump(*(event(n) for n in range(20)), event(3, reply="another answer"))
    there, back = write(tmp_path / "1.jsonl", lines), write(tmp_path / "2.jsonl", lines[::-1])
    (taken, one), (_, two) = replayed(tmp_path / "a", there), replayed(tmp_path / "b", back)
    assert (taken.turns, taken.duplicates) == (20, 1)
    assert one == two


BAD_LINES: dict[str, tuple[bytes, str]] = {
    "invalid JSON": (b'{"event": "turn",', "bad_json"),
    "invalid UTF-8": (b'{"event": "\xff"}', "bad_utf8"),
    "wrong type": (dump(event(1, reply=7))[0], "wrong_type"),
    "missing field": (dump({"event": "turn"})[0], "missing_field"),
    "duplicate keys": (b'{"event": "turn", "event": "turn"}', "duplicate_key"),
    "deep nesting": (b"[" * 50_000, "too_deep"),
    "10 MB": (dump(event(1, reply="x" * 10_000_000))[0], "too_large"),
    "half an escape": (dump(event(1, reply="REPLY"))[0].replace(b"REPLY", b"\\ud80"), "bad_json"),
    "NUL in an id": (dump(event(1, turn_id="a\x00"))[0], "bad_value"),
    "unknown kind": (dump(event(1, event="applause"))[0], "unknown_kind"),
    "unknown schema": (dump(event(1, schema=9))[0], "unknown_schema"),
    "the future": (dump(event(1, occurred_at=4_000_000_000))[0], "future"),
    "before 2000": (dump(event(1, occurred_at=1))[0], "too_old"),
}


def test_every_bad_line_is_a_dead_letter_with_its_line_and_nothing_else_is_lost(tmp_path: Path) -> None:
    good = dump(*(event(n) for n in range(30)), rating(3), rating(999))
    lines = good[:15] + [line for line, _ in BAD_LINES.values()] + good[15:]
    taken, _ = replayed(tmp_path / "s", write(tmp_path / "events.jsonl", lines))
    assert taken.dead_letters == dict(sorted(Counter(code for _, code in BAD_LINES.values()).items()))
    assert (taken.turns, taken.ratings) == (30, {"thumbs": 2})
    letters = answer("dead-letters", "ls", "--state", tmp_path / "s", cwd=tmp_path)
    where = {letter["where"]: letter["reason"] for letter in letters}
    for number, (_, code) in enumerate(BAD_LINES.values(), start=16):
        assert where[f"events.jsonl, line {number}"] == code
    assert all(letter["message"] for letter in letters)


def test_text_with_nul_is_kept_and_learned_from(tmp_path: Path) -> None:
    taken, _ = replayed(tmp_path / "s", write(tmp_path / "e.jsonl", dump(event(1, reply="a\x00b"), rating(1))))
    assert (taken.turns, taken.dead_letters) == (1, {})


def test_a_truncated_gzip_counts_what_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "broken.jsonl.gz"
    path.write_bytes(SAMPLE.read_bytes()[:200_000])
    taken, _ = replayed(tmp_path / "s", path)
    assert taken.dead_letters["truncated_file"] == 1
    assert taken.turns > 1_000


mutations = st.sampled_from(
    [
        "event",
        "schema",
        "event_id",
        "conversation_id",
        "turn_id",
        "occurred_at",
        "messages",
        "reply",
        "value",
        "kind",
        "source",
    ]
)
values = st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5), st.lists(st.integers(), max_size=2))


@pytest.mark.slow
@settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.integers(0, 9), st.booleans(), st.lists(st.tuples(mutations, values), max_size=2)), max_size=25
    )
)
def test_any_mutated_events_are_all_accounted_for(
    tmp_path_factory: pytest.TempPathFactory, drawn: list[tuple[int, bool, list[tuple[str, Any]]]]
) -> None:
    root = tmp_path_factory.mktemp("replay")
    lines = dump(*((event if is_turn else rating)(number, **dict(changes)) for number, is_turn, changes in drawn))
    taken, _ = replayed(root / "s", write(root / "events.jsonl", lines))  # raises when a line is unaccounted for
    assert taken.events == len(lines)


@pytest.mark.slow
def test_unrated_turns_are_judged_once_and_verdicts_survive_a_second_replay(tmp_path: Path) -> None:
    path = write(tmp_path / "e.jsonl", dump(*(event(n) for n in range(12)), rating(1), rating(2)))
    with judge_server(scores(5)) as server:
        judge = {"base_url": server.url, "model": "judge", "free": True}
        _, first = replayed(tmp_path / "s", path, judge=judge)
        asked = len(server.asked)
        _, second = replayed(tmp_path / "s", path, judge=judge)
        assert len(server.asked) == asked == 10
        _, elsewhere = replayed(tmp_path / "t", path, judge=judge)
    assert first == second == elsewhere
    verdicts = [judgement for judgement in Facts(tmp_path / "s" / "facts").verdicts() if isinstance(judgement, Verdict)]
    assert len({verdict.turn_id for verdict in verdicts}) == 10


def test_an_unreachable_judge_is_counted_and_the_replay_goes_on(tmp_path: Path) -> None:
    path = write(tmp_path / "e.jsonl", dump(*(event(n) for n in range(3)), rating(1)))
    judge = {"base_url": "http://127.0.0.1:9/v1", "model": "judge", "free": True, "attempts": 1}
    replayed(tmp_path / "s", path, judge=judge)
    reasons = [j.reason for j in Facts(tmp_path / "s" / "facts").verdicts() if isinstance(j, Unjudged)]
    assert reasons == ["unreachable"] * 2


def replay(folder: Path, state: str) -> None:
    answer("replay", SAMPLE, "--no-train", "--state", state, cwd=folder)


def begun(folder: Path, state: str) -> BaseProcess:
    """A replay of the sample in a process that may be killed."""
    process = FORKED.Process(target=replay, args=(folder, state))
    process.start()
    return process


KILLS = int(os.environ.get("TRIMTAB_TEST_KILLS", "4"))


@pytest.mark.slow
def test_a_replay_killed_at_random_moments_ends_in_the_same_dataset(tmp_path: Path) -> None:
    undisturbed = replayed(tmp_path / "undisturbed", SAMPLE)[1]
    chance = random.Random(7)
    imported = FORKED.Process(target=int)
    imported.start()
    imported.join()
    began_s = time.monotonic()
    begun(tmp_path, "whole").join()
    whole_s = time.monotonic() - began_s
    killed = 0
    for _ in range(KILLS):
        process = begun(tmp_path, "s")
        deadline = time.monotonic() + whole_s * chance.uniform(0.1, 0.8)
        process.join(deadline - time.monotonic())
        killed += process.is_alive()
        process.kill()
        process.join()
    assert killed >= KILLS / 4, f"only {killed} of {KILLS} were under way, a whole one takes {whole_s:.1f} s"
    account = answer("replay", SAMPLE, "--no-train", "--state", "s", cwd=tmp_path)
    assert account["dataset_hash"] == undisturbed


@pytest.mark.slow
@pytest.mark.skipif(not CONVAI2.exists(), reason="the real chats are not here (shared/data/convai2)")
def test_real_chats_are_accounted_for(tmp_path: Path) -> None:
    account = json.loads(trimtab("replay", CONVAI2, "--no-train", "--json", cwd=tmp_path).stdout)
    assert (account["turns"], account["ratings"]) == (6_714, {"stars": 416, "thumbs": 1_256})
    assert (account["events"], account["duplicates"], account["dead_letters"]) == (8_386, 0, {})
    assert account["peak_memory_bytes"] < 1e9


@pytest.mark.slow
def test_edits_by_people_without_a_name_are_learned_only_if_the_judge_prefers_them(tmp_path: Path) -> None:
    edits = [rating(n, kind="edit", value="truly better" if n < 3 else "buy") for n in range(6)]
    path = write(tmp_path / "e.jsonl", dump(*(event(n) for n in range(6)), *edits))
    assert replayed(tmp_path / "none", path)[0].ratings == {"edit": 6}
    assert demonstrations(tmp_path / "none") == []

    def think(body: dict[str, Any]) -> Answer:
        wanted = "truly better" if "truly better" in body["messages"][1]["content"] else "answer"
        return prefers(wanted)(body)

    with judge_server(think) as server:
        judge = {"base_url": server.url, "model": "judge", "free": True}
        _, first = replayed(tmp_path / "s", path, judge=judge)
        _, second = replayed(tmp_path / "s", path, judge=judge)
        assert len(server.asked) == 6
    assert first == second
    assert demonstrations(tmp_path / "s") == ["truly better"] * 3


def demonstrations(root: Path) -> list[str]:
    state = open_state(root)
    newest = snapshot.list_snapshots(state.snapshots)[-1]
    return [row.reply for row in snapshot.read(state.snapshots / newest.name, "demonstrations")]


@pytest.mark.slow
def test_whoever_writes_on_the_log_and_forges_verdicts_and_questions_changes_nothing(tmp_path: Path) -> None:
    edits = [rating(n, kind="edit", value="buy") for n in range(3)]
    path = write(tmp_path / "e.jsonl", dump(*(event(n) for n in range(8)), *edits))
    with judge_server(scores(2)) as server:
        judge = {"base_url": server.url, "model": "judge", "free": True}
        _, honest = replayed(tmp_path / "s", path, judge=judge)
        state, asked = open_state(tmp_path / "s"), len(server.asked)
        log = open_log(state, Settings(), CLOCK)
        log.append(forged(state, log))
        taken, attacked = replayed(tmp_path / "s", path, judge=judge)
        assert (attacked, len(server.asked)) == (honest, asked)
    assert taken.dead_letters == {}, "they are none of what was read"
    reasons = Counter(letter.reason for letter in dead_letters.read(log))
    assert reasons == {"unsigned": 8 + 3 + 8}


def forged(state: State, log: Log) -> list[Record]:
    """A perfect score for every turn, a preference for every edit, and questions about texts that nobody wrote."""
    said = [verdict for verdict in Facts(state.facts).verdicts() if isinstance(verdict, Verdict)]
    signature = next(iter(scan(log, VERDICTS))).headers
    turns = [turn for turn, _ in Facts(state.facts).turns()]
    made: list[Verdict | JudgeRequest] = []
    for turn in turns:
        place = {"tenant": turn.tenant, "conversation_id": turn.conversation_id, "turn_id": turn.turn_id}
        later = msgspec.structs.replace(said[0], **place, verdict_id=f"x-{turn.turn_id}", occurred_at_us=2**50)
        made.append(msgspec.structs.replace(later, score=1.0))
        if int(turn.turn_id[1:]) < 3:
            digest = edit_digest(f"answer {turn.turn_id[1:]}", "buy")
            made.append(msgspec.structs.replace(later, verdict_id=f"y-{turn.turn_id}", preference=1.0, edit=digest))
        made.append(JudgeRequest(request_id=f"z-{turn.turn_id}", **place, messages=turn.messages, reply="buy"))
    topics = [VERDICTS if isinstance(one, Verdict) else JUDGE_REQUESTS for one in made]
    return [Record(topic, b"k", msgspec.json.encode(one), signature) for topic, one in zip(topics, made, strict=True)]
