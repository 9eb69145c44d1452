"""One question over real HTTP: whatever the server does, there is an answer or the reason for none."""

from __future__ import annotations

import asyncio
import json
import random
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from feedback.clock import SystemClock
from feedback.judge import call, prompt, rubric
from feedback.judge.call import Answer, Caller, CallFailed, Tokens, retry_after_s, worst
from feedback.judge.client import key_of, probe
from feedback.judge.prompt import Prompt
from feedback.records import JudgeRequest
from feedback.settings import JudgeSettings, KeyUnusable
from tests.fakes import CLOCK
from tests.judge_server import Brain, Hangs, JudgeServer, Raw, complains, judge_server, scores

pytestmark = pytest.mark.slow

NOW_US = 1_790_000_000_000_000
KEY = "sk-very-secret"
RUBRIC = rubric.load()
PROMPT = prompt.ask_scores(
    JudgeRequest(
        request_id="q", tenant="t", conversation_id="c", turn_id="t1", reply="On its way.",
        messages=[{"role": "user", "content": "Where is my parcel?"}],
    ),
    RUBRIC,
)  # fmt: skip
GOOD = json.dumps({"scores": dict.fromkeys(PROMPT.schema["properties"]["scores"]["properties"], 5), "confidence": 1})


class Pauses(list[float], SystemClock):
    """A clock that sleeps no longer than it must, and keeps how long it would have been."""

    def now_us(self) -> int:
        return NOW_US

    async def sleep(self, seconds: float) -> None:
        self.append(seconds)


async def always() -> bool:
    return True


async def ask(server: JudgeServer | str, pauses: Pauses | None = None, **changes: Any) -> Answer:
    url = server if isinstance(server, str) else server.url
    settings = JudgeSettings(base_url=url, model="judge", **{"attempts": 2, "timeout_s": 5, **changes})
    caller = Caller(settings, KEY, Pauses() if pauses is None else pauses, random.Random(1))
    try:
        return await caller.ask(PROMPT, always)
    finally:
        await caller.close()


def completion(**message: Any) -> Raw:
    return Raw(json.dumps({"choices": [{"message": message}]}).encode())


@pytest.mark.parametrize(
    "raw",
    [
        Raw(b"<html>Please log in</html>", content_type="text/html"),
        Raw(b"\xff\xfe", content_type="text/plain"),
        *(
            Raw(body)
            for body in (
                b"", b"null", b"[]", b"3", b'"hi"', b"{}", b"{bad", b"[" * 100_000, b'{"choices": null}',
                b'{"choices": []}', b'{"choices": "abc"}', b'{"choices": {"a": 1}}', b'{"choices": [null]}',
                b'{"choices": [{"message": null}]}', b'{"choices": [{"message": "text"}]}',
            )
        ),
        completion(content=["x"]),
        completion(content={"a": 1}),
    ],
)  # fmt: skip
async def test_what_is_no_completion_is_unparsable(raw: Raw) -> None:
    with judge_server(lambda _: raw) as server:
        answer = await ask(server)
    assert answer.reason == "unparsable"
    assert answer.tokens == worst(PROMPT, 400)
    assert 0 < len(answer.detail) <= call.DETAIL_CHARACTERS
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    "message",
    [
        {"content": [{"type": "text", "text": GOOD}]},
        {"content": [{"type": "text", "text": GOOD[:9]}, {"type": "text", "text": GOOD[9:]}]},
        {"content": [{"type": "thinking", "thinking": [{"text": "hm"}]}, {"type": "text", "text": GOOD}]},
        {"content": GOOD, "reasoning_content": "Let me think.", "reasoning": {"odd": 1}},
        {"content": None, "reasoning_content": GOOD},
        {"content": "\n", "reasoning": GOOD},
        {"content": "", "reasoning_content": None, "reasoning": GOOD},
    ],
)
async def test_an_answer_is_found_in_parts_and_beside_thoughts(message: dict[str, Any]) -> None:
    with judge_server(lambda _: completion(**message)) as server:
        assert (await ask(server)).text == GOOD


async def test_a_thought_that_was_cut_short_is_no_answer() -> None:
    choice = {"finish_reason": "length", "message": {"content": None, "reasoning_content": GOOD}}
    with judge_server(lambda _: Raw(json.dumps({"choices": [choice]}).encode())) as server:
        answer = await ask(server)
    assert (answer.text, answer.cut) == ("", True)


async def test_a_mark_of_byte_order_before_a_completion_is_looked_past() -> None:
    body = json.dumps({"choices": [{"message": {"content": GOOD}}]}).encode("utf-8-sig")
    with judge_server(lambda _: Raw(body)) as server:
        assert (await ask(server)).text == GOOD


async def test_an_answer_without_end_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call, "MAX_ANSWER_BYTES", 10_000)
    with judge_server(lambda _: "x" * 20_000) as server:
        answer = await ask(server)
    assert answer.reason == "unparsable"
    assert "10,000 bytes" in answer.detail


@pytest.mark.parametrize(
    "brain",
    [
        lambda _: completion(refusal="I would rather not"),
        lambda _: Raw(b'{"choices": [{"finish_reason": "content_filter", "message": {"content": "{}"}}]}'),
        lambda _: 401,
        lambda _: 403,
        lambda _: 404,
        lambda _: 422,
    ],
)
async def test_a_refusal_is_not_asked_again(brain: Brain) -> None:
    with judge_server(brain) as server:
        answer = await ask(server, attempts=3)
    assert (answer.reason, len(server.asked)) == ("refused", 1)


@pytest.mark.parametrize(("status", "reason"), [(429, "rate_limited"), (500, "server_error"), (503, "server_error")])
async def test_a_fault_that_may_pass_is_asked_again_and_then_named(status: int, reason: str) -> None:
    with judge_server(lambda _: status) as server:
        answer = await ask(server, attempts=3)
    assert (answer.reason, answer.tokens, len(server.asked)) == (reason, Tokens(), 3)


async def test_a_fault_that_passes_leaves_an_answer() -> None:
    answers: list[Any] = [503, 429]
    with judge_server(lambda body: answers.pop() if answers else GOOD) as server:
        answer = await ask(server, attempts=3)
    assert (answer.text, answer.reason, len(server.asked)) == (GOOD, None, 3)


async def test_pauses_grow_and_scatter() -> None:
    pauses = Pauses()
    with judge_server(lambda _: 503) as server:
        await ask(server, pauses, attempts=9)
    for attempt, pause_s in enumerate(pauses):
        middle = min(call.LONGEST_PAUSE_S, call.FIRST_PAUSE_S * 2**attempt)
        assert 0.5 * middle <= pause_s <= 1.5 * middle
    assert len(pauses) == 8
    assert len({pause_s / call.FIRST_PAUSE_S for pause_s in pauses}) == 8


async def test_a_server_that_says_when_to_come_back_is_obeyed() -> None:
    pauses = Pauses()
    with judge_server(lambda _: 429) as server:
        server.retry_after = "61"
        answer = await ask(server, pauses)
    assert (pauses, answer.reason) == ([61.0], "rate_limited")


async def test_a_server_that_wants_to_be_left_alone_for_long_is() -> None:
    with judge_server(lambda _: 429) as server:
        server.retry_after = "86400"
        answer = await ask(server, attempts=3)
    assert (answer.reason, len(server.asked)) == ("rate_limited", 1)


@pytest.mark.parametrize(
    ("header", "wait_s"),
    [("7", 7), ("0.5", 0.5), ("Mon, 21 Sep 2026 14:13:50 GMT", 30), ("Mon, 21 Sep 2020 14:13:50 GMT", 0), ("-3", 0),
     ("nan", 0), ("soon", 0), ("", 0), ("inf", float("inf"))],
)  # fmt: skip
def test_retry_after_is_seconds_or_a_date(header: str, wait_s: float) -> None:
    assert retry_after_s({"retry-after": header}, NOW_US) == wait_s


@given(st.text(max_size=40))
def test_no_retry_after_header_breaks_anything(header: str) -> None:
    assert retry_after_s({"retry-after": header}, NOW_US) >= 0


async def test_nobody_there_is_unreachable_and_costs_nothing() -> None:
    with judge_server(scores()) as server:
        url = server.url
    for nowhere in (url, "http://localhost:9", "http://no-such-host.invalid/v1"):
        answer = await ask(nowhere)
        assert (answer.reason, answer.tokens) == ("unreachable", Tokens())
        assert answer.detail


@pytest.mark.parametrize("attempts", [1, 2, 3, 9])
async def test_a_question_on_which_the_connection_breaks_fails_after_three_tries_and_may_have_cost_money(
    attempts: int,
) -> None:
    tries = min(attempts, 3)
    with judge_server(lambda _: Raw(b'{"choices"', missing=100)) as server:
        answer = await ask(server, attempts=attempts)
        where = server.url
    assert (answer.reason, len(server.asked)) == ("disconnected", tries)
    assert answer.tokens.completion == tries * worst(PROMPT, 400).completion
    assert where in answer.detail
    assert "RemoteProtocolError" in answer.detail


@pytest.mark.parametrize(
    ("base_url", "address", "password"),
    [
        ("http://ann:s3cret@judge:8000/v1", "http://…@judge:8000/v1", "s3cret"),
        ("https://judge/v1?key=s3cret", "https://judge/v1", None),
        ("http://judge/v1", "http://judge/v1", None),
    ],
)
async def test_no_password_of_the_address_is_told(base_url: str, address: str, password: str | None) -> None:
    settings = JudgeSettings(base_url=base_url, model="judge")
    assert (settings.address, settings.address_password) == (address, password)
    answer = await ask(base_url.replace("judge:8000", "127.0.0.1:9").replace("judge", "127.0.0.1:9"), attempts=1)
    assert "s3cret" not in answer.detail


class Breaks(Caller):
    """Breaks the first tries of each question, `many` of them."""

    most = now = many = 0
    tries: Counter[str]

    async def _try(self, asked: Prompt) -> Any:
        self.now += 1
        self.most = max(self.most, self.now)
        for _ in range(5):
            await asyncio.sleep(0)
        self.now -= 1
        self.tries[asked.hash] += 1
        if self.tries[asked.hash] <= self.many:
            self.most = 0
            raise CallFailed("disconnected", "broken", 0.0, billed=True)
        return call._completion(completion(content=GOOD).body)


def breaking(many: int, attempts: int) -> Breaks:
    settings = JudgeSettings(base_url="http://judge", model="judge", attempts=attempts)
    caller = Breaks(settings, KEY, Pauses(), random.Random(1))
    caller.tries, caller.many = Counter(), many
    return caller


async def test_questions_on_which_it_broke_are_asked_again_one_after_another() -> None:
    caller = breaking(1, 4)
    others = [msgspec.structs.replace(PROMPT, schema={"number": number}) for number in range(4)]
    answers = await asyncio.gather(*(caller.ask(asked, always) for asked in others))
    assert [answer.text for answer in answers] == [GOOD] * 4
    assert caller.most == 1


async def test_a_question_that_brings_the_server_down_is_not_asked_for_ever() -> None:
    caller = breaking(9, 2)
    reasons = list[str | None]()
    for _ in range(4):  # as whoever waits for a judge that is away
        reasons.append((await caller.ask(PROMPT, always)).reason)
    assert reasons == ["disconnected"] * 4
    assert caller.tries.total() == 3


async def test_a_slow_server_runs_into_the_time_limit_and_may_have_cost_money() -> None:
    go = threading.Event()
    with judge_server(lambda _: (go.wait(60), GOOD)[1]) as server:
        answer = await ask(server, attempts=1, timeout_s=1.0)
        go.set()
    assert (answer.reason, answer.tokens) == ("timeout", worst(PROMPT, 400))


async def test_a_server_that_keeps_the_line_busy_runs_into_the_time_limit_too() -> None:
    def hang(_: Any) -> Any:
        raise Hangs

    with judge_server(hang) as server:
        answer = await ask(server, attempts=1, timeout_s=1.0)
        assert server.hung_up.wait(60), "the connection was left open"
    assert answer.reason == "timeout"


async def test_the_last_try_is_not_followed_by_another_that_nobody_pays() -> None:
    async def never() -> bool:
        return False

    with judge_server(lambda _: Raw(b"{", missing=1)) as server:
        settings = JudgeSettings(base_url=server.url, model="judge", attempts=5)
        caller = Caller(settings, KEY, Pauses(), random.Random(1))
        answer = await caller.ask(PROMPT, never)
    assert (answer.reason, len(server.asked)) == ("disconnected", 1)


@pytest.mark.parametrize(
    ("parameter", "complaint"),
    [
        ("response_format", "This response_format type is unavailable now"),
        ("response_format", "unknown field: json_schema"),
        ("max_tokens", "Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens' instead."),
        ("temperature", "Unsupported value: 'temperature' does not support 0 with this model."),
    ],
)
async def test_what_a_server_does_not_know_is_left_out_from_then_on(parameter: str, complaint: str) -> None:
    with judge_server(complains(parameter, complaint, lambda _: GOOD)) as server:
        settings = JudgeSettings(base_url=server.url, model="judge", attempts=1)
        caller = Caller(settings, KEY, Pauses(), random.Random(1))
        answers = [await caller.ask(PROMPT, always) for _ in range(2)]
    assert [answer.text for answer in answers] == [GOOD, GOOD]
    assert [parameter in body for body in server.asked] == [True, False, False]
    assert all(body.get("max_tokens", body.get("max_completion_tokens")) == 400 for body in server.asked)


@pytest.mark.parametrize(
    "body", [b"no such thing", b'{"detail": [{"msg": "no such thing"}]}', b'{"error": {"message": "no such thing"}}',
             b'{"message": "no such thing"}', b'"no such thing"', b'{"error": {"message": "no such thing \\ud800"}}'],
)  # fmt: skip
async def test_what_a_server_says_of_its_refusal_is_told_and_can_be_stored(body: bytes) -> None:
    with judge_server(lambda _: Raw(body, 404)) as server:
        answer = await ask(server)
    assert "404" in answer.detail
    assert "no such thing" in answer.detail
    assert answer.detail.encode()


@pytest.mark.parametrize("place", [0, call.DETAIL_CHARACTERS - len("Error code: 401 - ") - 5])
async def test_the_key_never_shows_in_a_reason_not_even_in_part(place: int) -> None:
    with judge_server(lambda _: Raw(b"." * place + KEY.encode(), 401, "text/plain")) as server:
        answer = await ask(server)
    assert "…" in answer.detail
    assert KEY[:4] not in answer.detail


def test_a_key_is_read_from_a_file_or_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "key"
    for text, refused in ((f" {KEY}\n", False), ("", True), ("a\nb", True), ("schlüssel", True)):
        path.write_text(text, encoding="utf-8")
        settings = JudgeSettings(api_key_file=path)
        if refused:
            with pytest.raises(KeyUnusable, match="key"):
                key_of(settings)
        else:
            assert key_of(settings) == KEY
    with pytest.raises(KeyUnusable, match="can't be read: No such file"):
        key_of(JudgeSettings(api_key_file=tmp_path / "none"))
    assert key_of(JudgeSettings(api_key=SecretStr(f"{KEY}\n"))) == KEY
    assert key_of(JudgeSettings()) is None


async def test_the_probe_says_what_is_wrong() -> None:
    with judge_server(scores()) as server:
        good = JudgeSettings(base_url=server.url, model="judge")
        assert await probe(good, CLOCK) is None
        assert "does not know" in (await probe(good.model_copy(update={"model": "other"}), CLOCK) or "")
        server.models = 401
        assert "refuses our key" in (await probe(good, CLOCK) or "")
        server.models = 404
        assert "answers 404" in (await probe(good, CLOCK) or "")
        for nonsense in (
            Raw(b"<html>", content_type="text/html"),
            Raw(b"null"),
            Raw(b'{"data": [1]}'),
            Raw(b"[" * 9_999),
        ):
            server.models = nonsense
            assert "something else" in (await probe(good, CLOCK) or "")
        server.models = Raw(json.dumps({"data": [{"id": "\x1b[31mred"}]}).encode())
        assert "\x1b" not in (await probe(good, CLOCK) or "\x1b")
    assert "can't be reached" in (await probe(good, CLOCK) or "")
