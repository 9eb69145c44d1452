"""Engines read copies of the bytes that were checked; they are never changed, and go when nobody lists them."""

from __future__ import annotations

from pathlib import Path, PurePath

import pytest
from safetensors.numpy import load_file

from deploy.engine.vllm.files import Files
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


def test_what_nobody_lists_goes_and_what_stands_in_for_the_base_stays(adapter: Adapter, tmp_path: Path) -> None:
    files = Files(tmp_path / "adapters", tmp_path / "adapters")
    files.keep(())
    kept, zero = Path(files.put(adapter)), Path(files.put_zero(adapter))
    files.keep({adapter.manifest.digest})
    assert kept.exists()
    files.keep(())
    assert (kept.exists(), zero.exists()) == (False, True)
