"""The engine that the settings describe."""

from __future__ import annotations

from pathlib import Path

from deploy.engine.adapters import RoutingSource, open_local
from deploy.engine.port import Engine
from deploy.engine.remote.answer import Patience
from deploy.engine.remote.engine import RemoteEngine
from deploy.errors import Failed
from deploy.settings import EngineSettings, Settings
from feedback.clock import Clock
from feedback.settings import KeyUnusable, read_key


def open_engine(settings: Settings, state_root: Path, candidates: Path, router: RoutingSource, clock: Clock) -> Engine:
    """Not yet started. Raises Failed."""
    if settings.engine.kind == "local":
        return open_local(settings, state_root, candidates, router, clock)
    return open_remote(settings.engine, settings.gateway.model_alias, clock)


def open_remote(settings: EngineSettings, alias: str, clock: Clock) -> RemoteEngine:
    """A server that clients ask for by `alias`, by its model's own name, and by the aliases of the settings."""
    try:
        key = read_key("engine", settings.api_key, settings.api_key_file)
    except KeyUnusable as error:
        raise Failed(str(error)) from None
    assert settings.model is not None  # the settings were checked
    models = {alias: settings.model, settings.model: settings.model} | settings.aliases
    patience = Patience(settings.first_word_within_s, settings.next_word_within_s)
    return RemoteEngine(settings.urls, models, key, patience, settings.limit, clock)
