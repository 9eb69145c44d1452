"""What must hold whatever is sent: of the running service, and of what reads files, verdicts and adapters."""

from __future__ import annotations

import dataclasses
import io
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from deploy.cli.candidate_view import print_candidate
from deploy.control.records import Candidate
from deploy.decisions.comparing import Comparing
from deploy.decisions.evidence import EvidenceRoom
from deploy.rules.gate import decide
from deploy.rules.reasons import sentence
from deploy.rules.weighing import Comparisons
from deploy.settings import GateSettings, Settings
from feedback.intake.contract import Rejected
from feedback.intake.edge import Edge, Record
from feedback.intake.event_files import lines as lines_of
from feedback.judge.prompt import Scores, Winner, read_scores, read_winner
from feedback.judge.reading import Unparsable
from feedback.judge.rubric import load as load_rubric
from models.adapters import CONFIG, WEIGHTS, AdapterInvalid, read_adapter
from tests.deploy.candidates import good_report, make_candidate
from tests.deploy.pairs import sample
from tests.fakes import CLOCK
from tests.fuzz.bodies import (
    CHATS,
    EVENTS,
    FEEDBACK,
    LABELS,
    MESSAGES,
    SCORES,
    SERVED,
    TURN,
    body,
    lines,
    mutated,
    written,
)
from tests.fuzz.service import EVENT_TOPICS, Fuzzed
from tests.judge_server import Answer, Raw

MOST_CHOICES = 128


@dataclass(frozen=True)
class Property:
    """`holds` is called with the service (None: it needs none) and with what the strategy makes."""

    name: str
    given: st.SearchStrategy[Any]
    holds: Callable[[Any, Any], None]
    live: bool = False


def events_are_accounted_for(service: Fuzzed, raw: bytes) -> None:
    answer = service.post("/v1/events", raw)
    if answer.status_code == 200:
        account = answer.json()
        sent = sum(bool(line.strip()) for line in raw.removeprefix(b"\xef\xbb\xbf").split(b"\n"))
        assert account["accepted"] + account["duplicates"] + len(account["rejected"]) == sent, (raw, account)
        assert all(one["reason"] for one in account["rejected"]), account
        service.took(account["accepted"])


def feedback_is_taken_or_refused(service: Fuzzed, raw: bytes) -> None:
    if service.post("/v1/feedback", raw.replace(SERVED.encode(), service.turn_id.encode())).status_code == 202:
        service.took(1, 2)


def labels_of_no_pair_are_refused(service: Fuzzed, raw: bytes) -> None:
    assert service.post("/v1/label", raw).status_code >= 400


def chats_are_answered_or_refused(service: Fuzzed, raw: bytes) -> None:
    if service.post("/v1/chat/completions", raw).status_code == 200:
        service.took(1, MOST_CHOICES)
    else:
        service.took(0, MOST_CHOICES)


def what_others_put_on_a_topic_is_a_fact_or_a_dead_letter(
    service: Fuzzed, sent: tuple[str, bytes, bytes | None]
) -> None:
    topic, value, signature = sent
    service.put(topic, value, () if signature is None else (("trimtab-signature", signature),))
    service.took(1)


def a_judge_may_say_anything(service: Fuzzed, said: tuple[int, Answer]) -> None:
    number, answer = said
    service.answers.append(answer)
    turn = TURN | {"turn_id": f"j-{number}", "event_id": f"j-{number}", "conversation_id": f"j-{number}"}
    turn = {name: value for name, value in turn.items() if name not in ("occurred_at", "replaces", "rollout")}
    turn |= {
        "occurred_at": CLOCK.now_us() / 1e6,
        "messages": [*MESSAGES, {"role": "user", "content": f"And {number}?"}],
    }
    account = service.post("/v1/events", json.dumps(turn).encode()).json()
    assert account["accepted"] == 1, account
    service.took(1)


def every_line_of_a_file_is_an_event_or_refused(_: None, raw: bytes) -> None:
    edge, now_us = Edge(b"key"), CLOCK.now_us()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "events.jsonl"
        path.write_bytes(raw)
        found = [line.rejected or edge.record(line.raw, now_us) for line in lines_of(path)]
    for one in found:
        assert isinstance(one, Record | Rejected)
        if isinstance(one, Rejected):
            assert one.message
        else:
            assert not isinstance(edge.admit(one.value, one.headers, now_us), Rejected), "taken once, taken again"


def every_verdict_is_one_or_unparsable(_: None, said: tuple[str, str]) -> None:
    text, asked = said
    rubric = load_rubric()
    for read in (lambda: read_scores(text, rubric, asked), lambda: read_winner(text, asked)):
        try:
            found: Any = read()
        except Unparsable as why:
            _explained(why)
        else:
            assert isinstance(found, Scores | Winner)
            assert 0 <= found.confidence <= 1


def a_damaged_adapter_is_invalid(_: None, damage: tuple[str, bytes | None, int]) -> None:
    name, content, at = damage
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root)
        digest = make_candidate(folder)
        file = folder / digest / name
        before = file.read_bytes() if file.is_file() else b""
        if content is None:
            file.unlink(missing_ok=True)
        else:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(
                before[: at % (len(before) + 1)] + content + before[at % (len(before) + 1) + len(content) :]
            )
        try:
            adapter = read_adapter(folder / digest, digest)
        except AdapterInvalid as why:
            _explained(why)
        else:
            assert adapter.manifest.digest == digest


def a_report_of_any_kind_is_decided_on_and_shown(_: None, raw: bytes) -> None:
    digest = "0" * 64
    with tempfile.TemporaryDirectory() as root:
        (Path(root) / digest).mkdir()
        (Path(root) / digest / "report.json").write_bytes(raw)
        comparing = Comparing(Path(root), Settings)
        report = EvidenceRoom(Path(root), comparing.weighed).report(digest)
    if report is not None:
        candidate = Candidate(digest, "s", "sha256:0", report.sha256, 1, 1, "trained", "gate")
        for pair in comparing.sampled(candidate, report.content, 1):
            json.dumps(dataclasses.asdict(pair), ensure_ascii=False).encode()  # as a database takes it
        decided = decide(report.content, GateSettings(), Comparisons(), None)
        assert all(isinstance(sentence(reason), str) for reason in decided.reasons)
        view = {"digest": digest, "created_at": "", "snapshot": "s", "state": "held", "stage": "gate", "share": 0.0}
        view |= {
            "gate": None,
            "history": [],
            "looks": [],
            "shadow": None,
            "objections": [],
            "comparisons": Comparisons().figures,
            "evidence": None,
            "evidence_age_s": None,
            "next": "wait",
        }
        print_candidate(Console(file=io.TextIOWrapper(io.BytesIO(), "utf-8")), view | {"report": report.content})


def _explained(why: Exception) -> None:
    assert str(why)


_STATS = {"mean_tokens": 20.0, "median_tokens": 19.0, "count": 8, "cut": 1, "repetition": 0.05, "language_match": 0.9}
_KNOWN = {"accuracy": 0.8, "interval": [0.7, 0.9], "holdout": 50, "few": None}
_REPORT = good_report(
    samples=[sample(1)],
    reward_model={
        "metric": "pairs",
        "majority_baseline": 0.5,
        **_KNOWN,
        "few": "few",
        "seen": _KNOWN,
        "unseen": _KNOWN,
    },
    sample_stats={"candidate": _STATS, "incumbent": _STATS, "wanted": {"count": 30, "median_tokens": 20.0}},
    sample_stats_by_prompt={kind: {"candidate": _STATS, "incumbent": _STATS} for kind in ("seen", "unseen")},
    retention={"neutral_kl": 0.1, "gate_kl": 0.2, "facts": {"said": "x", "base_right": 3, "lost": ["a"], "gained": []}},
    lengths={"max_length": 128, "cuts": {"train": {"examples": 6, "whole": 2, "history_cut": 1}}, "not_learned": ["x"]},
    unlearned=["all of one kind"],
)
_CONFIGS: list[dict[str, Any]] = [
    {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"]}
]
_INSIDE = [
    f"adapter/{WEIGHTS}",
    f"adapter/{CONFIG}",
    "manifest.json",
    "report.json",
    "_COMPLETE",
    "adapter/x.bin",
    "y.json",
]
_SAID = mutated(SCORES).flatmap(written).map(lambda raw: raw.decode("utf-8", "replace")) | st.text(max_size=200)
_STATUS = st.sampled_from([200] * 4 + [204, 301, 400, 401, 404, 429, 500, 503])
_ANSWER: st.SearchStrategy[Answer] = st.one_of(
    mutated(SCORES), _SAID, st.builds(Raw, st.binary(max_size=300), _STATUS), st.builds(Raw, body(SCORES), _STATUS)
)
_TOPIC = st.tuples(st.sampled_from(EVENT_TOPICS), body(EVENTS), st.none() | st.binary(max_size=40))

PROPERTIES = [
    Property("files", lines(EVENTS) | st.lists(mutated(EVENTS), max_size=4).flatmap(written), every_line_of_a_file_is_an_event_or_refused),
    Property("verdicts", st.tuples(_SAID, _SAID), every_verdict_is_one_or_unparsable),
    Property(
        "adapters",
        st.tuples(st.sampled_from(_INSIDE), st.none() | st.binary(max_size=60) | body(_CONFIGS), st.integers(0, 4_000)),
        a_damaged_adapter_is_invalid,
    ),
    Property("reports", mutated([_REPORT]).flatmap(written), a_report_of_any_kind_is_decided_on_and_shown),
    Property("events", lines(EVENTS), events_are_accounted_for, live=True),
    Property("feedback", body(FEEDBACK), feedback_is_taken_or_refused, live=True),
    Property("labels", body(LABELS), labels_of_no_pair_are_refused, live=True),
    Property("chats", body(CHATS), chats_are_answered_or_refused, live=True),
    Property("topics", _TOPIC, what_others_put_on_a_topic_is_a_fact_or_a_dead_letter, live=True),
    Property("judge", st.tuples(st.integers(0, 10**9), _ANSWER), a_judge_may_say_anything, live=True),
]  # fmt: skip


def checked(one: Property, service: Fuzzed | None, examples: int, derandomize: bool) -> None:
    """So many examples of it; fails with the smallest that does not hold."""

    def holds(value: object) -> None:
        one.holds(service, value)

    bounded = settings(
        max_examples=examples,
        derandomize=derandomize,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    bounded(given(one.given)(holds))()
