"""What serves, in words: what the engine has, beside what the rollout says it should have."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from deploy.engine.checking import check_engine
from deploy.rules.names import short
from deploy.rules.schedule import NOT_TRAINED
from deploy.serving_settings import EngineSettings
from feedback.clock import Clock
from feedback.settings import KeyUnusable, read_key
from models.adapters import engine_name


def look(engine: EngineSettings, clock: Clock) -> dict[str, Any]:
    """The engine as it is now, as JSON values: of vLLM what each replica has, which is asked for."""
    seen: dict[str, Any] = {"kind": engine.kind, "model": engine.model, "urls": engine.urls}
    if engine.kind != "vllm":
        return seen
    try:
        key = read_key("engine", engine.api_key, engine.api_key_file)
        checked = asyncio.run(check_engine(engine, key, clock, quick=True))
        replicas = [{"url": one.url, "away": _away(one.wrong), "adapters": one.adapters} for one in checked]
    except KeyUnusable as error:
        replicas = [{"url": url, "away": str(error), "adapters": []} for url in engine.urls]
    return seen | {"replicas": replicas}


def engine_lines(engine: Mapping[str, Any]) -> list[str]:
    """It in words, a line for itself and one for each replica."""
    match engine["kind"]:
        case "local":
            return ["local: a small model in the gateway's own process"]
        case "openai":
            return [f"{engine['model']} at {', '.join(engine['urls'])}", NOT_TRAINED]
    return [f"{engine['model']} on {len(engine['replicas'])} vLLM replicas", *map(_replica, engine["replicas"])]


def missing(engine: Mapping[str, Any], serving: Mapping[str, Any]) -> list[str]:
    """A sentence for each adapter that is to serve and that nobody can be served by."""
    if engine["kind"] == "local" or serving["halted"]:
        return []
    wanted = [serving["incumbent"], (serving["rollout"] or {}).get("candidate")]
    here = {name for replica in engine.get("replicas", ()) for name in replica["adapters"]}
    why = "this engine takes no adapters" if engine["kind"] == "openai" else "no replica has it"
    return [
        f"{short(digest)} does NOT serve: {why}; others answer in its place"
        for digest in wanted
        if digest is not None and engine_name(digest) not in here
    ]


def _away(wrong: Sequence[str]) -> str | None:
    return "; ".join(wrong) or None


def _replica(replica: Mapping[str, Any]) -> str:
    if replica["away"]:
        return f"{replica['url']}: AWAY, {replica['away']}"
    return f"{replica['url']}: has {', '.join(replica['adapters']) or 'no adapter'}"
