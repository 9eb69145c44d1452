"""The embedded log, with its transport and its producer."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import faust
from faust.types.transports import TransportT
from yarl import URL

from feedback.clock import Clock
from streams.link import Link
from streams.log import Starts
from streams.sqlite.log import SqliteLog
from streams.sqlite.producer import SqliteProducer
from streams.sqlite.transport import Transport


def link(log: SqliteLog, clock: Clock) -> Link:
    """That log, read and written in this process."""

    def transport(app: faust.App, starts: Starts) -> TransportT:
        path = str(Path(log.path).absolute())
        made = Transport([URL.build(scheme="sqlite", path=path)], app)  # written out, what follows a # would be lost
        made.starts, made.clock = starts, clock
        return made

    return Link(log, transport, partial(SqliteProducer, log))
