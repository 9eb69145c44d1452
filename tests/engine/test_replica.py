"""deploy/engine/vllm/replica.py against a real vLLM: what the table in its tests' fake server says is so."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from deploy.engine.vllm import proving
from deploy.engine.vllm.answers import AdapterRefused, FilesNotVisible, NameTaken, NotANumber, NotLoaded, ReplicaAway
from deploy.engine.vllm.replica import Replica
from models.adapters import CONFIG, WEIGHTS, verify
from models.chat import Chat
from models.loading import load_chat
from models.probes import Probe
from models.records import find_record
from models.reward import encode
from tests.deploy.real_models import make_adapter
from tests.engine import adapters
from tests.engine.conftest import Trained
from tests.engine.server import SERVED_AS, SLOTS, Vllm, vllm
from tests.fakes import CLOCK, until

NAME, OTHER, ZEROS = "tt-0123456789abcdef", "tt-fedcba9876543210", "tt-zeros"
CLOSE, FAR = 1e-4, 1e-2
USERS, TOP = 3, 5


@pytest.fixture(scope="session")
def chat(trained: Trained) -> Chat:
    return load_chat(trained.base)


def ids(chat: Chat, trained: Trained, probe: Probe) -> tuple[list[int], list[int]]:
    """Of the prompt and the reply, as training saw them."""
    prompt, (reply,) = encode(chat, probe.messages, [probe.reply], trained.max_length)
    return list(prompt), list(reply)


async def score(replica: Replica, model: str, prompt: list[int], reply: list[int]) -> list[float]:
    (scored,) = await proving.score(replica, model, [(prompt, reply)])
    return [*scored]


async def complete(replica: Replica, session: aiohttp.ClientSession, model: str, prompt: list[int]) -> Any:
    """What a user gets who wants to know the likeliest tokens."""
    wanted = {"model": model, "prompt": prompt, "max_tokens": 48, "temperature": 0, "ignore_eos": True, "logprobs": TOP}
    async with session.post(f"{replica.url}/v1/completions", json=wanted) as answer:
        assert answer.status == 200, await answer.text()
        return (await answer.json())["choices"][0]


@asynccontextmanager
async def users(
    replica: Replica, session: aiohttp.ClientSession, model: str, prompt: list[int]
) -> AsyncIterator[list[Any]]:
    """Some who ask without a pause, from the first token of theirs on; what they were answered."""
    answered: list[Any] = []
    leave = asyncio.Event()

    async def ask() -> None:
        while not leave.is_set():
            answered.append(await complete(replica, session, model, prompt))

    asking = [asyncio.create_task(ask()) for _ in range(USERS)]
    await until(lambda: len(answered) >= USERS, "they are in the middle of it")
    try:
        yield answered
    finally:
        leave.set()
        await asyncio.gather(*asking)


async def test_an_adapter_is_loaded_listed_and_unloaded(replica: Replica, trained: Trained) -> None:
    await replica.load(NAME, trained.adapter)
    await replica.load(NAME, trained.adapter)
    assert await replica.models() == {SERVED_AS: trained.base.path, NAME: str(trained.adapter)}
    await replica.unload(NAME)
    await replica.unload(NAME)
    assert await replica.models() == {SERVED_AS: trained.base.path}
    with pytest.raises(NotLoaded):
        await score(replica, NAME, [5], [6])


async def test_of_four_that_load_at_once_all_succeed(replica: Replica, trained: Trained) -> None:
    await asyncio.gather(*(replica.load(NAME, trained.adapter) for _ in range(4)))
    assert (await replica.models())[NAME] == str(trained.adapter)


async def test_a_name_that_is_taken_stays_with_its_files(replica: Replica, trained: Trained, tmp_path: Path) -> None:
    await replica.load(NAME, trained.adapter)
    with pytest.raises(NameTaken):
        await replica.load(NAME, adapters.copied(trained.adapter, tmp_path / "other"))


async def test_more_adapters_than_slots_are_all_there(replica: Replica, trained: Trained) -> None:
    names = [f"tt-{number}" for number in range(SLOTS + 2)]
    for name in names:
        await replica.load(name, trained.adapter)
    scored = [await score(replica, name, [5], [6, 7]) for name in names]
    assert scored == [scored[0]] * len(names)


@pytest.mark.parametrize("make", [None, adapters.without(CONFIG)], ids=["no directory", "no configuration"])
async def test_what_the_server_does_not_see_is_not_visible(
    replica: Replica, trained: Trained, tmp_path: Path, make: Callable[[Path, Path], Path] | None
) -> None:
    path = tmp_path / "adapter"
    if make is not None:
        make(trained.adapter, path)
    with pytest.raises(FilesNotVisible):
        await replica.load(NAME, path)
    assert NAME not in await replica.models()


REFUSED = {
    "no weights": (adapters.without(WEIGHTS), "doesn't contain tensors"),
    "garbage": (adapters.garbage, "header"),
    "cut": (adapters.cut, "incomplete"),
    "rank": (lambda good, to: adapters.configured(good, to, r=512), "rank 512 is greater than"),
    "dora": (lambda good, to: adapters.configured(good, to, use_dora=True), "DoRA"),
    "bias": (lambda good, to: adapters.configured(good, to, bias="all"), "bias"),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_what_the_server_will_not_serve_is_refused_and_it_stays_well(
    replica: Replica, trained: Trained, tmp_path: Path, case: str
) -> None:
    make, why = REFUSED[case]
    with pytest.raises(AdapterRefused, match=why):
        await replica.load(NAME, make(trained.adapter, tmp_path / "adapter"))
    assert NAME not in await replica.models()
    assert await replica.healthy()


async def test_in_float32_every_token_is_as_likely_as_at_training(replica: Replica, trained: Trained) -> None:
    record = find_record(trained.candidate, verify(trained.candidate, trained.candidate.name))
    assert record is not None
    await replica.load(NAME, trained.adapter)
    for probe in record.probes[::4]:
        for model, recorded in ((NAME, probe.candidate), (SERVED_AS, probe.base)):
            assert await score(replica, model, probe.prompt, probe.reply) == pytest.approx(recorded, abs=CLOSE)


async def test_an_adapter_whose_tensors_are_misnamed_is_loaded_and_changes_nothing(
    replica: Replica, trained: Trained, chat: Chat, tmp_path: Path
) -> None:
    prompt, reply = ids(chat, trained, trained.probes()[0][0])
    await replica.load(NAME, adapters.misnamed(trained.adapter, tmp_path / "misnamed"))
    assert await score(replica, NAME, prompt, reply) == await score(replica, SERVED_AS, prompt, reply)


async def test_scores_and_users_log_probabilities_leave_each_other_alone(
    replica: Replica, session: aiohttp.ClientSession, trained: Trained, chat: Chat
) -> None:
    prompt, reply = ids(chat, trained, trained.probes()[0][0])
    await replica.load(NAME, trained.adapter)
    alone, alone_user = await score(replica, NAME, prompt, reply), await complete(replica, session, NAME, prompt)
    async with users(replica, session, NAME, prompt) as answered:
        assert await score(replica, NAME, prompt, reply) == pytest.approx(alone, abs=CLOSE)
    for answer in answered:
        assert answer["text"] == alone_user["text"]
        assert [len(likeliest) for likeliest in answer["logprobs"]["top_logprobs"]] == [TOP] * 48


async def test_beside_adapters_an_adapter_of_zeros_is_the_base_and_the_base_itself_is_not(
    replica: Replica, session: aiohttp.ClientSession, trained: Trained, chat: Chat, tmp_path: Path
) -> None:
    """The second half is a fault of this vLLM on the CPU: where it fails, the base may be asked by its own name again."""
    prompt, reply = ids(chat, trained, trained.probes()[0][0])
    bare = await score(replica, SERVED_AS, prompt, reply)
    await replica.load(ZEROS, adapters.zeros(trained.adapter, tmp_path / "zeros"))
    await replica.load(NAME, trained.adapter)
    async with users(replica, session, NAME, prompt):
        assert await score(replica, ZEROS, prompt, reply) == pytest.approx(bare, abs=CLOSE)
    other = make_adapter(trained.base, tmp_path)
    await replica.load(OTHER, tmp_path / other / "adapter")
    await score(replica, OTHER, prompt, reply)  # now every slot holds an adapter that changes something
    async with users(replica, session, NAME, prompt):
        beside = await score(replica, SERVED_AS, prompt, reply)
    assert max(abs(a - b) for a, b in zip(beside, bare, strict=True)) > FAR


@pytest.fixture
def careless(trained: Trained, tmp_path: Path) -> Iterator[Vllm]:
    """A server that was not told which layers its adapters have, for a test that spoils and ends it."""
    with vllm(trained.base, tmp_path / "careless", layers=()) as running:
        yield running


async def test_a_server_is_scored_unharmed_then_spoilt_and_then_dead(
    careless: Vllm, session: aiohttp.ClientSession, trained: Trained, chat: Chat, tmp_path: Path
) -> None:
    """One test, because such a server takes minutes to start."""
    replica = Replica(session, careless.url, CLOCK)
    prompt, reply = ids(chat, trained, trained.probes()[0][0])
    await replica.load(NAME, trained.adapter)
    alone = await score(replica, NAME, prompt, reply)
    async with users(replica, session, NAME, prompt):
        assert await score(replica, NAME, prompt, reply) == pytest.approx(alone, abs=CLOSE)

    await replica.load(OTHER, adapters.nan(trained.adapter, tmp_path / "nan"))
    with pytest.raises(NotANumber):
        await score(replica, OTHER, prompt + reply[:-1], reply[-1:])
    await replica.unload(OTHER)
    assert await replica.healthy()
    await score(replica, SERVED_AS, prompt, reply)  # what lies in others' caches spoils no score: each has its own

    await until(
        lambda: _ended_by_prompt_logprobs(replica, session, prompt + reply),
        "`prompt_logprobs` ends a server beside other requests; where it does not any more, it could score replies, and",
    )
    with pytest.raises(ReplicaAway, match=r"EngineCore|can't be reached"):
        await replica.load(OTHER, trained.adapter)
    with pytest.raises(ReplicaAway):
        await score(replica, NAME, prompt, reply)


async def _ended_by_prompt_logprobs(replica: Replica, session: aiohttp.ClientSession, prompt: list[int]) -> bool:
    async def ask(**fields: Any) -> None:
        asked = {"model": NAME, "prompt": prompt, "ignore_eos": True} | fields
        with contextlib.suppress(aiohttp.ClientError):
            async with session.post(f"{replica.url}/v1/completions", json=asked) as answer:
                await answer.read()

    await asyncio.gather(*(ask(max_tokens=32) for _ in range(USERS)), ask(max_tokens=1, prompt_logprobs=0))
    return not await replica.healthy()
