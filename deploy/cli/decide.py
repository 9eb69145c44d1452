"""What the commands about candidates, rollout and keys share: the rules over this state directory, and who is asking."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager

from deploy.cli.common import Context
from deploy.decisions.operations import Operations
from deploy.parts import in_use


@contextmanager
def operations(context: Context) -> Iterator[Operations]:
    """The rules. trimtab.toml is read only where a rule needs it, so that `halt` works beside a broken one."""
    control = context.control
    try:
        settings = lambda: in_use(context.state, context.settings)  # noqa: E731 (read where a rule needs it)
        yield Operations(control, settings, context.state.candidates, context.clock)
    finally:
        control.close()


def actor() -> str:
    """Who types: the operating system's user, not what the environment claims."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"
