"""`trimtab topics` and what it stands on, on a real Kafka."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from kafka.admin import ConfigResource, ConfigResourceType

from feedback.facts.reader import Facts
from feedback.topics import TOPICS
from streams.kafka import log as log_module
from streams.kafka.log import KafkaLog
from streams.kafka.topics import TopicState, describe, faults, mend, why_kept
from streams.log import kept_s
from tests.deploy.commands import answer, trimtab, typed_in
from tests.fakes import until
from tests.streams.test_worker import signed, turn, worker


def configure(log: KafkaLog, topic: str, **settings: str) -> None:
    """As an operator might."""
    changed = {name.replace("_", "."): value for name, value in settings.items()}
    with log.administer() as admin:
        admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, log.prefix + topic, changed)])


@pytest.mark.kafka
def test_topics_are_made_with_what_they_need(log: KafkaLog) -> None:
    found = describe(log)
    assert set(found) == set(TOPICS)
    assert {(topic.partitions, topic.cleanup, topic.max_message_bytes) for topic in found.values()} == {
        (2, "delete", 2_000_000)
    }
    assert {name: topic.retention_s / 86_400 for name, topic in found.items()} == dict.fromkeys(TOPICS, 7.0) | {
        "dead.letters": 30.0,
        "dead.letters.redriven": 30.0,
    }
    assert faults(found) == []
    assert mend(log, 2) == []


@pytest.mark.kafka
def test_what_would_lose_events_is_refused_with_the_command_that_mends_it(
    tmp_path: Path, log: KafkaLog, kafka_servers: str, prefix: str
) -> None:
    configure(log, "turns.served", cleanup_policy="compact")
    configure(log, "ratings.given", max_message_bytes="1000")
    with log.administer() as admin:
        admin.create_partitions({f"{prefix}ratings.given": 3})
    variables = {"TRIMTAB_BROKER__URL": f"kafka://{kafka_servers}", "TRIMTAB_BROKER__PREFIX": prefix}
    assert answer("topics", "lag", cwd=tmp_path, **variables)["lag"] == 0
    refused = trimtab("worker", cwd=tmp_path, **variables)
    assert refused.returncode == 1
    assert f"the topic {prefix}turns.served is compacted" in refused.stderr
    assert "`trimtab topics create` mends it" in refused.stderr
    shown = {row["name"]: row["faults"] for row in answer("topics", "describe", cwd=tmp_path, **variables)}
    assert "takes 1,000 bytes at most" in shown["ratings.given"][0]
    assert "a rating would not meet its turn" in shown["turns.served"][1]
    done = answer("topics", "create", cwd=tmp_path, TRIMTAB_BROKER__PARTITIONS="2", **variables)["done"]
    assert f"{prefix}turns.served: 2 partitions became 3" in done
    assert answer("topics", "create", cwd=tmp_path, TRIMTAB_BROKER__PARTITIONS="2", **variables) == {"done": []}
    assert answer("topics", "lag", cwd=tmp_path, **variables)["lag"] == 0


@pytest.mark.kafka
async def test_partitions_added_later_are_taken_over_by_the_running_worker(
    tmp_path: Path, log: KafkaLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_module, "METADATA_MS", 300)
    async with worker(tmp_path, log) as running:
        log.append([signed(turn(n)) for n in range(20)])
        await running.drained()
        assert len(mend(log, 5)) == len(TOPICS)
        records = [signed({**turn(n), "conversation_id": f"later {n}"}) for n in range(20, 60)]

        def appended() -> bool:
            log.append(records)
            return any(
                end for (topic, partition), end in log.ends().items() if topic == "turns.served" and partition > 1
            )

        await until(appended, "records on the new partitions")  # the producer too has to notice them
        await running.drained()
    facts = Facts(tmp_path / "facts")
    assert {found.turn_id for found, _ in facts.turns()} == {f"t{n}" for n in range(60)}
    assert set(facts.columns("turns", ["partition"]).column("partition").to_pylist()) > {0, 1}


@pytest.mark.slow
def test_the_embedded_log_has_topics_too(tmp_path: Path) -> None:
    made = answer("topics", "create", cwd=tmp_path)["done"]
    assert len(made) == len(TOPICS)
    assert answer("topics", "create", cwd=tmp_path) == {"done": []}
    rows: list[dict[str, Any]] = answer("topics", "describe", cwd=tmp_path)
    assert {row["name"] for row in rows} == set(TOPICS)
    assert "0 records to do" in typed_in(tmp_path, "topics", "lag").out


GOOD = TopicState("turns.served", 2, 3, 3, "delete", 604_800, 2_000_000)


def test_longer_retention_is_no_fault() -> None:
    state = TopicState("turns.served", 2, 3, 3, "delete", -1, 5_000_000)
    assert faults({"turns.served": state}) == []


def test_a_fault_names_the_topic_as_the_cluster_knows_it_and_what_would_be_right() -> None:
    compacted = msgspec.structs.replace(GOOD, cleanup="compact,delete", max_message_bytes=1_999_999)
    cleanup, size = faults({"turns.served": compacted}, "a.")
    assert cleanup.sentence.startswith("the topic a.turns.served is compacted (cleanup.policy is compact,delete)")
    assert (cleanup.topic, cleanup.setting) == ("turns.served", ("cleanup.policy", "delete"))
    assert "takes 1,999,999 bytes at most (max.message.bytes); 2,000,000 are needed" in size.sentence
    assert size.setting == ("max.message.bytes", "2000000")


def test_turns_and_ratings_have_as_many_partitions_and_verdicts_as_many_as_they_like() -> None:
    more = {
        name: msgspec.structs.replace(GOOD, name=name, partitions=3) for name in ("ratings.given", "verdicts.given")
    }
    (fault,) = faults({"turns.served": GOOD, **more}, "a.")
    assert fault.sentence.startswith(
        "a.turns.served has 2 and a.ratings.given has 3 partitions: a rating would not meet"
    )
    assert (fault.topic, fault.setting) == ("turns.served", None)
    assert faults({"turns.served": GOOD, "verdicts.given": more["verdicts.given"]}) == []


@pytest.mark.parametrize("topic", TOPICS)
def test_why_a_topic_is_kept_says_how_long_it_is(topic: str) -> None:
    assert why_kept(topic).startswith(f"{kept_s(topic) // 86_400} days: ")
