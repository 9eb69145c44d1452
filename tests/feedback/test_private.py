"""What holds secrets is closed to others, and that is said; where it can't be, that is said instead."""

from __future__ import annotations

import stat
from pathlib import Path
from unittest.mock import patch

import pytest
from structlog.testing import capture_logs

from feedback.private import Exposed, keep_private


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize(
    ("was", "now"), [(0o644, 0o600), (0o640, 0o600), (0o777, 0o700), (0o602, 0o600), (0o444, 0o400)]
)
def test_what_others_may_do_is_taken_away_and_said_once(tmp_path: Path, was: int, now: int) -> None:
    path = tmp_path / "key"
    path.write_text("k")
    path.chmod(was)
    with capture_logs() as lines:
        keep_private(path)
        keep_private(path)
    assert mode(path) == now
    assert [(line["event"], line["was"], line["now"]) for line in lines] == [
        ("made_private", f"{was:04o}", f"{now:04o}")
    ]


def test_what_is_private_stays_and_nothing_is_said(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("k")
    path.chmod(0o400)
    with capture_logs() as lines:
        keep_private(path)
    assert (mode(path), lines) == (0o400, [])


@pytest.mark.parametrize("refusal", [PermissionError, OSError, None])
def test_what_can_not_be_closed_is_exposed(tmp_path: Path, refusal: type[OSError] | None) -> None:
    """Of somebody else, on a file system that is not written to, or on one that knows no permissions."""
    path = tmp_path / "key"
    path.write_text("k")
    path.chmod(0o644)
    with patch.object(Path, "chmod", side_effect=refusal), pytest.raises(Exposed) as raised, capture_logs() as lines:
        keep_private(path)
    assert (raised.value.mode, mode(path), lines) == (0o644, 0o644, [])


def test_what_is_not_there_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        keep_private(tmp_path / "none")
