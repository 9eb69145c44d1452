"""What is about sockets runs on the event loop that the public port has."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop

ON_SOCKETS = {"test_accepting", "test_connection", "test_stopping"}


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The event loop of a test here."""
    module = item.module.__name__.rpartition(".")[2] if isinstance(item, pytest.Function) else ""
    return {"uvloop": uvloop.new_event_loop} if module in ON_SOCKETS else {"asyncio": asyncio.new_event_loop}
