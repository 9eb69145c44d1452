"""Engines read copies of the bytes that were checked; they are never changed, and go as a whole."""

from __future__ import annotations

import os
from pathlib import Path, PurePath

import pytest
from safetensors.numpy import load_file

from deploy.engine.vllm.files import RESTS_S, Files
from models.adapters import CONFIG, WEIGHTS, Adapter, read_adapter
from tests.deploy.candidates import make_candidate


@pytest.fixture
def adapter(tmp_path: Path) -> Adapter:
    folder = tmp_path / "candidates"
    folder.mkdir()
    digest = make_candidate(folder)
    return read_adapter(folder / digest, digest)


def test_the_bytes_that_were_checked_are_what_an_engine_finds_whatever_becomes_of_the_candidate(
    adapter: Adapter, tmp_path: Path
) -> None:
    (tmp_path / "candidates" / adapter.manifest.digest / "adapter" / WEIGHTS).write_bytes(b"changed")
    files = Files(tmp_path / "adapters", PurePath("/mnt/adapters"))
    assert files.put(adapter) == files.put(adapter) == PurePath("/mnt/adapters", adapter.manifest.digest)
    here = tmp_path / "adapters" / adapter.manifest.digest
    assert ((here / WEIGHTS).read_bytes(), (here / CONFIG).read_bytes()) == (adapter.weights, adapter.config)


def test_what_stands_in_for_the_base_has_the_adapters_shapes_and_changes_nothing(
    adapter: Adapter, tmp_path: Path
) -> None:
    files = Files(tmp_path / "adapters", tmp_path / "adapters")
    zero = load_file(Path(files.put_zero(adapter)) / WEIGHTS)
    real = load_file(Path(files.put(adapter)) / WEIGHTS)
    assert {name: value.shape for name, value in zero.items()} == {name: value.shape for name, value in real.items()}
    assert not any(value.any() for value in zero.values())
    assert any(value.any() for value in real.values())
    assert files.put_zero(adapter) == files.put_zero(adapter)


def test_what_is_removed_goes_as_a_whole_unless_it_was_asked_for_just_now(adapter: Adapter, tmp_path: Path) -> None:
    files, digest = Files(tmp_path / "adapters", PurePath("/mnt/adapters")), adapter.manifest.digest
    assert files.digests() == []
    path, zero = files.put(adapter), files.put_zero(adapter)
    here = tmp_path / "adapters" / digest
    assert files.digests() == [digest], "what stands in for the base is for every adapter of its shapes"
    rested(here)
    files.put(adapter)
    files.remove([digest, "0" * 64])
    assert files.has(path)
    rested(here)
    files.remove([digest])
    assert (files.has(path), files.has(zero), files.digests()) == (False, True, [])


def rested(path: Path) -> None:
    """As if nobody had asked for it for a while."""
    long_ago_s = path.stat().st_mtime - RESTS_S - 60
    os.utime(path, (long_ago_s, long_ago_s))
