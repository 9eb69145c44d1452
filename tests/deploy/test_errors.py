"""What a command says when it can't do what was asked names no password, whoever catches it."""

from __future__ import annotations

import pytest

from deploy.errors import Failed, Refused


@pytest.mark.parametrize("kind", [Failed, Refused])
def test_every_sentence_of_ours_is_masked(kind: type[Failed]) -> None:
    error = kind("http://ann:hunter2@127.0.0.1:9/v1 can't be reached")
    assert f"{error}" == "http://ann:***@127.0.0.1:9/v1 can't be reached"
    assert "hunter2" not in f"{error!s}"
