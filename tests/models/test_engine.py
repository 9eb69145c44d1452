import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from models.adapters import AdapterInvalid, read_adapter
from models.bases import find_base
from models.settings import BaseModelSettings
from tests.models.conftest import TINY
from tests.models.snapshots import said

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("trained")]


@pytest.fixture(scope="module")
def engine(trained: tuple[Path, Path]) -> Any:
    from models.engine import LocalEngine

    base = find_base(BaseModelSettings(max_length=96), TINY, trained[0])
    assert base is not None
    return LocalEngine(base)


@pytest.fixture
def loaded(engine: Any, trained: tuple[Path, Path]) -> Any:
    engine.load_adapter(trained[1].name, trained[1])
    yield engine
    engine.unload_adapter(trained[1].name)


def answer(engine: Any, adapter: str | None = None, **options: Any) -> tuple[str, Any]:
    generation = engine.generate(said("Where is order 42?"), adapter, **{"max_tokens": 30, "seed": 7} | options)
    return "".join(generation), generation


def test_the_same_seed_gives_the_same_reply(engine: Any) -> None:
    assert answer(engine)[0] == answer(engine)[0]
    assert len({answer(engine, seed=seed, temperature=2.0)[0] for seed in range(5)}) > 1


def test_temperature_zero_and_a_tiny_top_p_take_the_likeliest_token(engine: Any) -> None:
    greedy = answer(engine, temperature=0.0)[0]
    assert answer(engine, temperature=1.0, top_p=1e-6)[0] == greedy


def test_a_reply_says_how_it_ended_and_what_it_cost(engine: Any) -> None:
    _, generation = answer(engine, max_tokens=3)
    assert (generation.finish_reason, generation.completion_tokens) == ("length", 3)
    assert generation.prompt_tokens > 3
    text, generation = answer(engine, max_tokens=90, temperature=0.0)
    assert generation.finish_reason == "stop"
    assert text


def test_a_stop_string_ends_the_reply_and_is_not_shown(engine: Any) -> None:
    text, _ = answer(engine, max_tokens=90, temperature=0.0)
    stop = text.split()[2]
    cut, generation = answer(engine, max_tokens=90, temperature=0.0, stop=[stop])
    assert cut == text[: text.index(stop)]
    assert generation.finish_reason == "stop"


def test_a_context_longer_than_the_model_is_answered_from_its_end(engine: Any) -> None:
    generation = engine.generate(said("word " * 500) + said("Where is order 42?"), max_tokens=50, seed=1)
    assert "".join(generation)
    assert generation.prompt_tokens + generation.completion_tokens <= 96


def test_an_adapter_changes_the_reply_and_leaves_the_base_as_it_was(engine: Any, trained: tuple[Path, Path]) -> None:
    digest = trained[1].name
    before = answer(engine, temperature=0.0)[0], [answer(engine, seed=n)[0] for n in range(4)]
    engine.load_adapter(digest, trained[1])
    assert engine.adapters == {digest}
    assert [answer(engine, digest, seed=n)[0] for n in range(4)] != before[1]
    assert (answer(engine, temperature=0.0)[0], [answer(engine, seed=n)[0] for n in range(4)]) == before
    engine.unload_adapter(digest)
    assert engine.adapters == frozenset()
    assert answer(engine, temperature=0.0)[0] == before[0]


def test_an_adapter_that_is_not_loaded_is_an_error(engine: Any) -> None:
    from models.engine import UnknownAdapter

    with pytest.raises(UnknownAdapter):
        engine.generate(said("Hi"), "0" * 64)


def test_requests_of_several_adapters_interleave_in_threads(loaded: Any, trained: tuple[Path, Path]) -> None:
    wanted = {(a, n): answer(loaded, a, seed=n)[0] for a in (None, trained[1].name) for n in range(3)}
    found: dict[Any, str] = {}

    def ask(adapter: str | None, seed: int) -> None:
        found[adapter, seed] = answer(loaded, adapter, seed=seed)[0]

    threads = [threading.Thread(target=ask, args=key) for key in wanted]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == wanted


def test_replies_of_the_base_and_of_an_adapter_go_forward_in_one_pass_as_each_would_alone(
    loaded: Any, trained: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [(adapter, seed) for seed in range(3) for adapter in (None, trained[1].name)]
    alone = [answer(loaded, adapter, seed=seed)[0] for adapter, seed in asked]
    assert alone[0] != alone[1]
    passes, forward = [], loaded._forward
    monkeypatch.setattr(loaded, "_forward", lambda *what: passes.append(len(what[0])) or forward(*what))
    batch = [loaded.generate(said("Where is order 42?"), adapter, max_tokens=30, seed=seed) for adapter, seed in asked]
    found = [""] * len(batch)
    while any(g.finish_reason is None for g in batch):
        found = [text + piece for text, piece in zip(found, loaded.step(batch), strict=True)]
    for generation in batch:
        generation.close()
    assert found == alone
    assert passes[0] == len(asked)
    assert len(passes) == max(g.completion_tokens for g in batch)


def test_an_adapter_is_kept_until_its_last_reply_is_through(engine: Any, trained: tuple[Path, Path]) -> None:
    digest = trained[1].name
    engine.load_adapter(digest, trained[1])
    expected = answer(engine, digest, temperature=0.0)[0]
    under_way = engine.generate(said("Where is order 42?"), digest, max_tokens=30, seed=7, temperature=0.0)
    first = next(under_way)
    engine.unload_adapter(digest)
    assert engine.adapters == frozenset()
    assert first + "".join(under_way) == expected
    assert not engine._names()


def test_an_abandoned_reply_frees_its_adapter(engine: Any, trained: tuple[Path, Path]) -> None:
    engine.load_adapter(trained[1].name, trained[1])
    abandoned = engine.generate(said("Hi"), trained[1].name, max_tokens=30)
    engine.unload_adapter(trained[1].name)
    abandoned.close()
    assert not engine._names()


def copy_with_record(trained: Path, to: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """The candidate, with another record in its report."""
    shutil.copytree(trained, to / trained.name)
    report = to / trained.name / "report.json"
    content = json.loads(report.read_bytes())
    change(content["probes"])
    report.write_text(json.dumps(content))
    return to / trained.name


def of_another(probes: dict[str, Any]) -> None:
    """As if what was trained had done the opposite."""
    for probe in probes["record"]["probes"]:
        probe["candidate"] = [min(0.0, 2 * b - c) for b, c in zip(probe["base"], probe["candidate"], strict=True)]


def on_another_base(probes: dict[str, Any]) -> None:
    for probe in probes["record"]["probes"]:
        probe["base"] = [b - 0.3 * (n % 2) for n, b in enumerate(probe["base"])]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (of_another, r"not proven: .* is not applied as it was trained"),
        (on_another_base, "not proven: the engine's base is not the base of the training"),
        (lambda probes: probes["record"]["probes"][0]["base"].pop(), "differ in number"),
        (lambda probes: probes["record"].update(digest="0" * 64), "it proves nothing here"),
        (lambda probes: probes.update(record=[]), "no readable record"),
        (
            lambda probes: probes["record"]["probes"][0].update(candidate=[float("nan")] * 9),
            "can't prove anything|read",
        ),
    ],
)
def test_an_adapter_that_does_not_prove_to_be_the_recorded_one_is_refused(
    engine: Any, trained: tuple[Path, Path], tmp_path: Path, change: Callable[[dict[str, Any]], object], reason: str
) -> None:
    with pytest.raises(AdapterInvalid, match=reason):
        engine.load_adapter(trained[1].name, copy_with_record(trained[1], tmp_path, change))
    assert engine.adapters == frozenset()
    assert not engine._names()


def test_a_candidate_from_before_has_its_record_made_once_and_nothing_of_it_changes(
    engine: Any, trained: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = copy_with_record(trained[1], tmp_path / "candidates", lambda probes: probes.pop("record"))
    sealed = {path: path.read_bytes() for path in before.rglob("*") if path.is_file()}
    engine.load_adapter(before.name, before)
    engine.unload_adapter(before.name)
    assert {path: path.read_bytes() for path in before.rglob("*") if path.is_file()} == sealed
    assert (tmp_path / "records" / f"{before.name}.json").exists()
    monkeypatch.setattr("models.engine.remake", None)
    engine.load_adapter(before.name, before)
    engine.unload_adapter(before.name)


def test_a_candidate_from_before_whose_base_is_gone_is_refused_by_name(
    engine: Any, trained: tuple[Path, Path], tmp_path: Path
) -> None:
    from models.probes import remake

    adapter = read_adapter(trained[1], trained[1].name)
    gone = msgspec.structs.replace(engine.base, path=str(tmp_path / "gone"))
    with pytest.raises(
        AdapterInvalid, match=f"adapter {trained[1].name[:16]} is from before .* base {gone.name} is not"
    ):
        remake(trained[1], adapter, gone)
    other = msgspec.structs.replace(engine.base, revision="0" * 64, name="llama")
    with pytest.raises(AdapterInvalid, match="not on llama"):
        remake(trained[1], adapter, other)
    assert not (trained[0] / "records").exists()


def test_a_changed_adapter_is_refused(engine: Any, trained: tuple[Path, Path], tmp_path: Path) -> None:
    copy = copy_with_record(trained[1], tmp_path, lambda probes: None)
    weights = copy / "adapter" / "adapter_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(AdapterInvalid, match="changed after training"):
        engine.load_adapter(trained[1].name, copy)
