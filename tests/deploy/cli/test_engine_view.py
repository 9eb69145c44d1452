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


def on(*replicas: list[str]) -> dict[str, object]:
    return {"kind": "vllm", "model": "m", "replicas": [{"url": "u", "away": None, "adapters": one} for one in replicas]}


@pytest.mark.parametrize(
    ("engine", "serving", "named"),
    [
        (on([engine_name(A)], [engine_name(B)]), SERVING, []),
        (on([engine_name(A)], []), SERVING, [B]),
        (on([], []), SERVING, [A, B]),
        (on([], []), SERVING | {"halted": True}, []),
        (on([]), SERVING | {"incumbent": None, "rollout": None}, []),
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
    lines = engine_lines(look(engine, CLOCK))
    assert lines[0] == "m on 1 vLLM replicas"
    assert f"AWAY, the engine's key file {none} can't be read" in lines[1]
