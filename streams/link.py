"""A log with its ways in and out: how a Faust app reads it, how asyncio sends to it.

Made by `streams.sqlite.link` or `streams.kafka.link`: a log itself is a store and knows neither.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import faust
from faust.types.transports import TransportT

from streams.log import Log, Producer, Starts


class Link(NamedTuple):
    """One log, and what stands on it."""

    log: Log
    transport: Callable[[faust.App, Starts], TransportT]
    """How a Faust app reads the log; partitions begin where `Starts` says that the facts end."""
    producer: Callable[[], Producer]
    """A way to send to the log from asyncio."""
