"""What serves, in words: what the engine has, beside what the rollout says it should have."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from deploy.engine.checking import Checked, check_engine
from deploy.engine.vllm.plan import ZERO
from deploy.rules.names import short
from deploy.rules.schedule import NOT_TRAINED
from deploy.serving_settings import EngineSettings
from feedback.clock import Clock
from feedback.settings import KeyUnusable, read_key
from models.adapters import engine_name


def look(engine: EngineSettings, served: Mapping[str, Any] | None, clock: Clock) -> dict[str, Any]:
    """The engine as it is now, as JSON values: of vLLM what each replica has, which is asked for, and what of it is served.

    `served` is what the gateway says of that (None: none runs). Without it no adapter is known to be served.
    """
    seen: dict[str, Any] = {"kind": engine.kind, "model": engine.model, "urls": engine.urls}
    if engine.kind != "vllm":
        return seen
    try:
        key = read_key("engine", engine.api_key, engine.api_key_file)
        checked = asyncio.run(check_engine(engine, key, clock, quick=True))
        replicas = [{"url": one.url, "away": _away(one.wrong), "adapters": _adapters(one)} for one in checked]
    except KeyUnusable as error:
        replicas = [{"url": url, "away": str(error), "adapters": []} for url in engine.urls]
    if served is None:
        return seen | {"replicas": replicas}
    return seen | {"replicas": [_served(one, served) for one in replicas], "unusable": served["unusable"]}


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
    here = {name for replica in engine.get("replicas", ()) for name in replica.get("served", replica["adapters"])}
    return [
        f"{short(digest)} does NOT serve: {_why(engine, engine_name(digest))}; others answer in its place"
        for digest in wanted
        if digest is not None and engine_name(digest) not in here
    ]


def _why(engine: Mapping[str, Any], name: str) -> str:
    if engine["kind"] == "openai":
        return "this engine takes no adapters"
    if why := engine.get("unusable", {}).get(name):
        return str(why)
    refused = [why for replica in engine["replicas"] if (why := replica.get("refused", {}).get(name))]
    if refused or not any(name in replica["adapters"] for replica in engine["replicas"]):
        return "; ".join(refused) or "no replica has it"
    return "it is loaded and not proved yet"


def _served(replica: Mapping[str, Any], served: Mapping[str, Any]) -> dict[str, Any]:
    """The replica, with what it has that is served, and why what is not isn't."""
    known = next((one for one in served["replicas"] if one["url"] == replica["url"].rstrip("/")), None)
    here = [name for name in replica["adapters"] if known is not None and name in known["adapters"]]
    return {**replica, "served": here, "refused": known["refused"] if known is not None else {}}


def _adapters(checked: Checked) -> list[str]:
    """What stands in for the base is none."""
    return [name for name in checked.adapters if not name.startswith(ZERO)]


def _away(wrong: Sequence[str]) -> str | None:
    return "; ".join(wrong) or None


def _replica(replica: Mapping[str, Any]) -> str:
    if replica["away"]:
        return f"{replica['url']}: AWAY, {replica['away']}"
    has: list[str] = replica["adapters"]
    if "served" not in replica:
        return f"{replica['url']}: has {', '.join(has) or 'no adapter'}"
    others = [name for name in has if name not in replica["served"]]
    said = [f"serves {', '.join(replica['served']) or 'no adapter'}"]
    said += [f"{name} is loaded and not proved yet" for name in others if name not in replica["refused"]]
    said += [f"{name} is refused: {why}" for name, why in replica["refused"].items()]
    return f"{replica['url']}: {'; '.join(said)}"
