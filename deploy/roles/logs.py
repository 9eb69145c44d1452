"""Logs: one JSON object per line on stderr (readable lines on a terminal), quiet by default, no library's banner."""

from __future__ import annotations

import logging
import sys
import threading
import traceback
from types import TracebackType

import structlog

from feedback.durable import is_full
from feedback.masking import masked, masked_within


def log_to_stderr(name: str) -> None:
    """Our own lines go to stderr, from here on: whatever a command has to say is on stdout."""
    structlog.configure(
        processors=[
            *_shared(name),
            _full_disk_is_no_fault,
            structlog.processors.format_exc_info,
            _without_passwords,
            _renderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),  # a whole line at once: processes share it
        cache_logger_on_first_use=True,
    )


def configure(role: str) -> None:
    """Set up logging for a process that plays `role`; warnings and worse, plus what the role itself says."""
    log_to_stderr(role)
    libraries = logging.StreamHandler(sys.stderr)
    libraries.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*_shared(role), structlog.stdlib.add_logger_name],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _full_disk_is_no_fault,
                structlog.processors.format_exc_info,
                _without_passwords,
                _renderer(),
            ],
        )
    )
    logging.basicConfig(level=logging.WARNING, handlers=[libraries])


def _shared(name: str) -> list[structlog.types.Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        _with_role(name),  # a thread has none of our context
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]


def _renderer() -> structlog.types.Processor:
    return structlog.dev.ConsoleRenderer() if sys.stderr.isatty() else structlog.processors.JSONRenderer()


def _full_disk_is_no_fault(logger: object, method: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
    """A full disk is told in a line, wherever it was met: where in the code says nothing to whoever has to free some space."""
    told = event.get("exc_info")
    error = told if isinstance(told, BaseException) else told[1] if isinstance(told, tuple) else sys.exc_info()[1]
    while told and error is not None:
        if is_full(error):
            return {**event, "exc_info": None, "error": f"the disk is full: {error}"[:300]}
        error = error.__cause__ or error.__context__
    return event


def mask_tracebacks() -> None:
    """Errors that nobody foresaw end a process, or a thread, with their traceback, and name no password there either."""

    def told(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
        sys.stderr.write(masked("".join(traceback.format_exception(kind, error, trace))))

    sys.excepthook = told
    threading.excepthook = lambda found: told(found.exc_type, found.exc_value, found.exc_traceback)


def _without_passwords(logger: object, method: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
    return {name: masked_within(value) for name, value in event.items()}


def _with_role(role: str) -> structlog.types.Processor:
    def add(logger: object, method: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
        event.setdefault("role", role)
        return event

    return add
