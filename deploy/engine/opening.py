"""The engine that the settings describe."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any

from deploy.engine.adapters import RoutingSource, open_local
from deploy.engine.port import Engine
from deploy.engine.remote.answer import Patience
from deploy.engine.remote.engine import RemoteEngine
from deploy.engine.vllm.engine import VllmEngine
from deploy.engine.vllm.files import Files
from deploy.engine.vllm.neighbours import Neighbours
from deploy.errors import Failed
from deploy.settings import Settings
from deploy.state import State
from feedback.clock import Clock
from feedback.settings import KeyUnusable, read_key
from models.bases import Base, served_base
from models.errors import JobFailed


def open_engine(settings: Settings, state: State, router: RoutingSource, clock: Clock, seat: int = 1) -> Engine:
    """Of the gateway on this seat; not yet started. Raises Failed."""
    match settings.engine.kind:
        case "local":
            return open_local(settings, state.root, state.candidates, router, clock)
        case "openai":
            return RemoteEngine(**_remote(settings, clock))
    engine = settings.engine
    files = Files(state.adapters, PurePath(engine.adapters_seen_as or state.adapters.absolute()))
    return VllmEngine(
        **_remote(settings, clock),
        slots=engine.max_loras,
        base=_base(settings, state),
        candidates=state.candidates,
        files=files,
        router=router,
        neighbours=Neighbours(state, seat),
        chat=engine.chat,
        note=state.replicas(seat),
    )


def _remote(settings: Settings, clock: Clock) -> dict[str, Any]:
    """What both kinds of server need. Clients ask by the gateway's name, by the model's own, and by the aliases."""
    engine = settings.engine
    try:
        key = read_key("engine", engine.api_key, engine.api_key_file)
    except KeyUnusable as error:
        raise Failed(str(error)) from None
    assert engine.model is not None  # the settings were checked
    models = {settings.gateway.model_alias: engine.model, engine.model: engine.model} | engine.aliases
    patience = Patience(engine.first_word_within_s, engine.next_word_within_s)
    return {
        "urls": engine.urls,
        "models": models,
        "key": key,
        "patience": patience,
        "limit": engine.limit,
        "clock": clock,
    }


def _base(settings: Settings, state: State) -> Base:
    try:
        base = served_base(settings.base, settings.tiny, state.root)
    except JobFailed as error:
        raise Failed(str(error)) from None
    if base is None:
        raise Failed(
            "engine.kind = 'vllm' serves adapters on a base that candidates are trained on, and there is none yet: run "
            "`trimtab train` first, or take engine.kind = 'openai', which serves without adapters"
        )
    return base
