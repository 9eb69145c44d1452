"""The local engine's steps: many replies in one pass of the model, and each as if it were alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from models.bases import describe
from models.engine import LocalEngine, portions
from models.generation import Generation, Sampler
from models.text_stream import TextStream
from tests.models.snapshots import said

ASKED: list[tuple[str, dict[str, Any]]] = [
    ("Hi", {"temperature": 0.0, "max_tokens": 30}),
    ("Where is order 42?", {"temperature": 0.0, "max_tokens": 7}),
    ("Where is my parcel? I have waited for it since Monday.", {"seed": 3, "max_tokens": 25}),
    ("Hi", {"seed": 3, "max_tokens": 40, "temperature": 1.7}),
    ("Hi", {"seed": 4, "max_tokens": 1, "temperature": 1.7}),
    ("Thank you!", {"seed": 4, "max_tokens": 20, "top_p": 0.3}),
]


@pytest.fixture(scope="module")
def engine(chat: Any, model: Any, tmp_path_factory: pytest.TempPathFactory) -> LocalEngine:
    path = tmp_path_factory.mktemp("base")
    model.save_pretrained(path)
    chat.tokenizer.save_pretrained(path)
    return LocalEngine(describe(Path(path), "untrained"))


@pytest.fixture
def passes(engine: LocalEngine, monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """For each pass of the model: how many ids each reply read."""
    seen: list[list[int]] = []
    forward = engine._forward

    def count(reads: Any, adapters: Any) -> Any:
        seen.append([len(ids) for _, ids in reads])
        return forward(reads, adapters)

    monkeypatch.setattr(engine, "_forward", count)
    return seen


def begin(engine: LocalEngine, question: str, **options: Any) -> Generation:
    return engine.generate(said(question), None, **options)


def finish(engine: LocalEngine, under_way: dict[int, Generation], joining: int = 0) -> dict[int, str]:
    """Their texts; one more joins with every step."""
    texts: dict[int, str] = dict.fromkeys(under_way, "")
    inside = list(under_way)[: joining or None]
    while any(g.finish_reason is None for g in under_way.values()):
        going = [n for n in inside if under_way[n].finish_reason is None]
        for n, piece in zip(going, engine.step([under_way[n] for n in going]), strict=True):
            assert isinstance(piece, str)
            texts[n] += piece
        inside = list(under_way)[: len(inside) + 1]
    return texts


def test_every_reply_in_a_batch_is_the_reply_alone_whoever_joins_and_leaves(engine: LocalEngine) -> None:
    alone = {n: "".join(begin(engine, q, **how)) for n, (q, how) in enumerate(ASKED)}
    assert len(set(alone.values())) > 3
    for joining in (0, 1, 2):
        batch = {n: begin(engine, q, **how) for n, (q, how) in enumerate(ASKED)}
        assert finish(engine, batch, joining) == alone


def test_a_model_whose_attention_is_not_plain_gives_the_same_replies_one_by_one(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = finish(engine, {n: begin(engine, q, **how) for n, (q, how) in enumerate(ASKED)})
    monkeypatch.setattr(engine, "_together", False)
    assert finish(engine, {n: begin(engine, q, **how) for n, (q, how) in enumerate(ASKED)}) == together


def test_eight_replies_take_as_many_passes_as_the_longest_of_them(engine: LocalEngine, passes: list[list[int]]) -> None:
    finish(engine, {n: begin(engine, "Hi", temperature=0.0, max_tokens=10 + n) for n in range(8)})
    assert len(passes) == 17
    assert passes[1] == [1] * 8
    assert passes[-1] == [1]


def test_a_token_costs_the_same_at_the_end_of_a_long_reply(
    engine: LocalEngine, passes: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[int] = []
    decode = engine._chat.decode
    monkeypatch.setattr(engine._chat, "decode", lambda ids: decoded.append(len(ids)) or decode(ids))
    costs = []
    for length in (20, 40, 80):
        decoded.clear()
        passes.clear()
        "".join(begin(engine, "Hi", seed=1, max_tokens=length, stop=["never said", "nor this"]))
        costs.append((sum(map(len, passes)), sum(decoded)))
    assert [read for read, _ in costs] == [20, 40, 80]
    assert costs[2][1] <= 6 * costs[0][1]  # in proportion: 4, with the square: 16


def test_a_long_prompt_is_read_in_portions_beside_those_who_write(engine: LocalEngine, passes: list[list[int]]) -> None:
    writing = begin(engine, "Hi", temperature=0.0, max_tokens=40)
    engine.step([writing])
    passes.clear()
    long = begin(engine, "parcel " * 100, temperature=0.0, max_tokens=5)
    assert long.prompt_tokens > 40
    finish(engine, {0: writing, 1: long})
    assert max(sum(counts) for counts in passes) <= 10
    assert len(passes) == 39


def test_who_reads_a_short_prompt_does_not_wait_for_who_reads_a_long_one() -> None:
    assert portions([500], 16, 256) == [256]
    assert portions([1, 500], 16, 256) == [1, 17]
    assert portions([1, 500, 6, 300, 1], 16, 256) == [1, 6, 6, 6, 1]
    assert portions([3, 500], 16, 256) == [3, 253]
    assert portions([1, 1], 16, 256) == [1, 1]
    assert portions([], 16, 256) == []
    assert sum(portions([50] * 40, 16, 16)) == 16


def test_what_goes_wrong_with_one_reply_is_told_to_it_alone(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = engine._forward
    good, bad = begin(engine, "Hi", temperature=0.0, max_tokens=5), begin(engine, "Thank you!", max_tokens=5)
    broken = bad.memory

    def fail(reads: Any, adapters: Any) -> Any:
        if any(memory is broken for memory, _ in reads):
            raise RuntimeError("out of memory")
        return forward(reads, adapters)

    monkeypatch.setattr(engine, "_forward", fail)
    _, error = engine.step([good, bad])
    assert isinstance(error, RuntimeError)
    monkeypatch.undo()
    bad.close()
    assert "".join(good) == "".join(begin(engine, "Hi", temperature=0.0, max_tokens=5))


def test_logits_that_are_no_numbers_end_the_reply_that_they_are_for(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = engine._forward
    good, bad = begin(engine, "Hi", seed=1, max_tokens=2), begin(engine, "Hi", seed=2, max_tokens=2)
    monkeypatch.setattr(engine, "_forward", lambda *asked: forward(*asked) * torch.tensor([[1.0], [float("nan")]]))
    piece, error = engine.step([good, bad])
    assert isinstance(piece, str)
    assert isinstance(error, RuntimeError)


def test_the_memory_of_one_reply_is_bounded_by_a_shorter_context(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    from models.ragged import bytes_per_token

    monkeypatch.setattr("models.engine._MOST_BYTES", 40 * bytes_per_token(engine._model))
    small = LocalEngine(engine.base)
    reply = begin(small, "parcel " * 100, max_tokens=200, seed=1)
    "".join(reply)
    assert reply.prompt_tokens + reply.completion_tokens <= 40


def test_nothing_is_said_where_nothing_may_be(engine: LocalEngine, passes: list[list[int]]) -> None:
    reply = begin(engine, "Hi", max_tokens=0)
    assert engine.step([reply]) == [""]
    assert ("".join(reply), reply.finish_reason, passes) == ("", "length", [])


def test_a_temperature_too_small_to_divide_by_is_greedy() -> None:
    logits = torch.tensor([0.0, 3.0, 2.9999])
    assert {Sampler(1e-40, 1.0, seed).choose(logits) for seed in range(20)} == {1}


def test_a_closed_reply_holds_no_memory_and_is_given_back_once(engine: LocalEngine) -> None:
    released = []
    text = TextStream(engine._chat)
    reply = Generation(engine.step, lambda: released.append(1), [5], None, 3, Sampler(0.0, 1.0, 1), text, object())
    reply.close()
    reply.close()
    assert (reply.memory, released) == (None, [1])
