"""What the job says when the machine is at its limits."""

import errno

import pytest

from models.job import resource_sentence


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "disk is full"),
        (RuntimeError("PytorchStreamWriter failed writing file data/1: file write failed"), "disk is full"),
        (Exception("I/O error: No space left on device (os error 28)"), "disk is full"),
        (PermissionError(errno.EACCES, "Permission denied", "/x/y"), "/x/y can't be written"),
        (MemoryError(), "not enough memory"),
    ],
)
def test_a_machine_at_its_limits_is_named_with_what_to_do(error: Exception, sentence: str) -> None:
    found = resource_sentence(error)
    assert found is not None
    assert sentence in found


def test_a_mistake_of_ours_is_not_explained_away() -> None:
    assert resource_sentence(ValueError("shapes differ")) is None
