"""Who is let in at a port that a command opens: what it needs before it opens, and what is said of keys then."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any

import click
import structlog

from deploy.cli.common import Context
from deploy.control.keys import without_effect
from deploy.errors import Refused
from deploy.settings import variable
from deploy.web.loopback import is_loopback

log = structlog.get_logger()


def trust_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--trust-loopback`; whoever gives it has set the environment, for this process and those that it starts."""

    @click.option(
        "--trust-loopback",
        is_flag=True,
        help="Whoever asks from this machine may do everything without a key, also where there are keys.",
    )
    @functools.wraps(command)
    def wrapper(*args: Any, trust_loopback: bool, **kwargs: Any) -> Any:
        if trust_loopback:
            os.environ[variable("access.trust_loopback")] = "true"
        return command(*args, **kwargs)

    return wrapper


def keys_needed(context: Context, host: str) -> bool:
    """Whether others than this machine reach `host`: then keys are needed. Raises Refused where none is valid."""
    if is_loopback(host):
        return False
    keys, now_us = context.control.keys.list(), context.clock.now_us()
    if not any(key.valid(now_us) for key in keys):
        why = "every key is revoked or expired" if keys else "there are no keys yet"
        raise Refused(
            f"{host} is reachable from other machines and {why}: make one with "
            f"`trimtab keys create --name … --scope chat`, or bind to 127.0.0.1"
        )
    return True


def list_without_effect(context: Context) -> None:
    """A line in the log for each key that was given more than it opens (earlier versions made such keys)."""
    now_us = context.clock.now_us()
    for key in context.control.keys.list():
        if key.valid(now_us) and (problem := without_effect(key)) is not None:
            log.warning("key_without_effect", key=key.id, name=key.name, tenant=key.tenant, next=problem)
