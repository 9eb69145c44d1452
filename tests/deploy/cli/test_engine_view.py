"""What serves, in words: never an adapter that nobody can be served by."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.cli.engine_view import engine_lines, look, missing
from deploy.serving_settings import EngineSettings
from models.adapters import engine_name
from tests.fakes import CLOCK

A, B = "a" * 64, "b" * 64
SERVING = {"incumbent": A, "rollout": {"candidate": B}, "halted": False}


def on(*replicas: list[str], **more: object) -> dict[str, object]:
    seen = [{"url": "u", "away": None, "adapters": one} | more for one in replicas]
    return {"kind": "vllm", "model": "m", "replicas": seen}


@pytest.mark.parametrize(
    ("engine", "serving", "named"),
    [
        (on([engine_name(A)], [engine_name(B)]), SERVING, []),
        (on([engine_name(A)], []), SERVING, [B]),
        (on([], []), SERVING, [A, B]),
        (on([], []), SERVING | {"halted": True}, []),
        (on([]), SERVING | {"incumbent": None, "rollout": None}, []),
        (on([engine_name(A), engine_name(B)], served=[engine_name(A)], refused={}), SERVING, [B]),
        ({"kind": "openai"}, SERVING, [A, B]),
        ({"kind": "local"}, SERVING, []),
    ],
)
def test_an_adapter_that_is_nowhere_is_said_not_to_serve(
    engine: dict[str, object], serving: dict[str, object], named: list[str]
) -> None:
    said = missing(engine, serving)
    assert [sentence.split()[0] for sentence in said] == [
        digest[: len(sentence.split()[0])] for digest, sentence in zip(named, said, strict=True)
    ]


def test_without_a_key_that_can_be_read_no_replica_is_asked(tmp_path: Path) -> None:
    none = tmp_path / "none"
    engine = EngineSettings(kind="vllm", urls=("http://127.0.0.1:9/v1",), model="m", api_key_file=none)
    lines = engine_lines(look(engine, None, CLOCK))
    assert lines[0] == "m on 1 vLLM replicas"
    assert f"AWAY, the engine's key file {none} can't be read" in lines[1]


def test_why_an_adapter_does_not_serve_is_said_as_far_as_the_gateway_knows() -> None:
    name, only = engine_name(A), SERVING | {"rollout": None}
    there: dict[str, object] = {"served": [], "refused": {}}

    def why(engine: dict[str, object]) -> str:
        (said,) = missing(engine, only)
        return said.partition("does NOT serve: ")[2].partition("; others")[0]

    assert why(on([name], **there)) == "it is loaded and not proved yet"
    assert why(on([], **there)) == "no replica has it"
    assert why(on([], **there | {"refused": {name: "u has 2 slots"}})) == "u has 2 slots"
    assert why(on([], **there) | {"unusable": {name: "its base is not here"}}) == "its base is not here"


def test_a_replicas_line_tells_what_is_served_from_what_is_merely_loaded() -> None:
    engine = on(["tt-a", "tt-b"], served=["tt-a"], refused={"tt-c": "layer 3 is not applied"})
    assert engine_lines(engine)[1] == (
        "u: serves tt-a; tt-b is loaded and not proved yet; tt-c is refused: layer 3 is not applied"
    )
    assert engine_lines(on(["tt-a"], served=[], refused={"tt-a": "x"}))[1] == "u: serves no adapter; tt-a is refused: x"
