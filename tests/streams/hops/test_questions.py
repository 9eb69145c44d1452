from __future__ import annotations

import json

import pytest

from feedback.intake.edge import Edge
from feedback.topics import JUDGE_REQUESTS, VERDICTS
from streams.hops.questions import Questions
from tests.fakes import CLOCK, MemoryProducer
from tests.streams.test_worker import KEY, request


async def test_questions_that_could_not_be_sent_go_with_the_next_ones_and_once() -> None:
    producer = MemoryProducer()
    questions = Questions(producer, Edge(KEY), CLOCK)
    producer.broken = True
    with pytest.raises(OSError, match="no space"):
        await questions.send([request(1)])
    producer.broken = False
    await questions.send([request(2)])
    await questions.send([])
    assert [json.loads(record.value)["request_id"] for record in producer.records] == ["q1", "q2"]


async def test_while_too_many_wait_those_outside_the_sample_are_unjudged_with_that_reason() -> None:
    producer = MemoryProducer()
    questions = Questions(producer, Edge(KEY), CLOCK, room=10)
    questions.backlog = 20
    await questions.send([request(number) for number in range(100)])
    asked = [record for record in producer.records if record.topic == JUDGE_REQUESTS]
    left = [json.loads(record.value) for record in producer.records if record.topic == VERDICTS]
    assert 10 < len(asked) < 45
    assert len(asked) + len(left) == 100
    assert {judgement["reason"] for judgement in left} == {"backlog"}
    questions.backlog = 0
    await questions.send([request(200)])
    assert producer.records[-1].topic == JUDGE_REQUESTS
