"""For all tests."""

import atexit
import gc

import pytest

gc.disable()  # while torch and its kin are imported: a million objects that live to the end, looked at again and again


def pytest_collection_finish(session: pytest.Session) -> None:
    gc.freeze()
    atexit.register(gc.unfreeze)  # at the end everything may go: some libraries report what outlives them
    gc.enable()
