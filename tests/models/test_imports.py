"""Importing large libraries in less time."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from models.imports import keep_imported, quick_imports


@pytest.fixture(params=[True, False], ids=["collecting", "not collecting"])
def collecting(request: pytest.FixtureRequest) -> Iterator[bool]:
    """Whether garbage was collected before."""
    before = gc.isenabled()
    (gc.enable if request.param else gc.disable)()
    yield request.param
    (gc.enable if before else gc.disable)()


def test_no_garbage_is_collected_within_and_afterwards_as_before(collecting: bool) -> None:
    with quick_imports():
        assert not gc.isenabled()
    assert gc.isenabled() is collecting


def test_an_import_that_fails_leaves_it_as_it_was(collecting: bool) -> None:
    with pytest.raises(ImportError), quick_imports():
        raise ImportError
    assert gc.isenabled() is collecting


def test_what_was_there_is_kept_and_what_comes_later_is_collected() -> None:
    before = gc.get_freeze_count()
    here = [[]]
    keep_imported()
    assert gc.get_freeze_count() > before
    assert all(one is not here for one in gc.get_objects())
    later: list[object] = [[]]
    assert any(one is later for one in gc.get_objects())
