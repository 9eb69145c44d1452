"""Importing large libraries in less time. No torch."""

from __future__ import annotations

import atexit
import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quick_imports() -> Iterator[None]:
    """While libraries are imported: they make a million objects that stay, and Python's garbage collector looks at them
    again and again (a sixth of the time with torch)."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


def keep_imported() -> None:
    """What this process has imported is not looked at any more: a whole look takes a third of a second, with torch.

    At the end it may go: torch complains of what is left.
    """
    gc.freeze()
    atexit.register(gc.unfreeze)
