"""Who asks for the base itself shares; who loads beside it is alone; the dead hold nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from deploy.engine.vllm.base_lock import BaseLock

HOLDS = """
import sys
from pathlib import Path
from deploy.engine.vllm.base_lock import BaseLock
lock = BaseLock(Path(sys.argv[1]))
print(getattr(lock, sys.argv[2])(), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "adapters" / "lock"


def test_those_who_share_it_keep_out_who_wants_it_alone_until_the_last_lets_go(path: Path) -> None:
    one, other, alone = BaseLock(path), BaseLock(path), BaseLock(path)
    assert one.share()
    assert other.share()
    assert not alone.take()
    one.release()
    assert not alone.take()
    other.close()
    assert alone.take()
    assert (one.held, alone.held) == (None, "alone")


def test_nobody_shares_what_is_held_alone_neither_others_nor_who_holds_it(path: Path) -> None:
    alone, other = BaseLock(path), BaseLock(path)
    assert alone.take()
    assert alone.take()
    assert not alone.share()
    assert not other.share()
    alone.release()
    assert other.share()


def test_who_shares_and_wants_it_alone_has_let_go_where_others_share_it(path: Path) -> None:
    one, other = BaseLock(path), BaseLock(path)
    assert one.share()
    assert other.share()
    assert not one.take()
    assert one.held is None
    assert other.take(), "its own share is no hindrance, and the other has none any more"


@pytest.mark.parametrize("how", ["share", "take"])
def test_a_process_that_is_killed_holds_it_no_longer(path: Path, how: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(path), how], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    with process:
        assert process.stdout.readline() == "True\n"
        ours = BaseLock(path)
        assert not ours.take()
        process.kill()
        process.wait()
        assert ours.take()
