"""What a command says when it can't do what was asked: one clear sentence for a person."""

from __future__ import annotations

from feedback.masking import masked


class Failed(Exception):
    """It could not be done (exit code 1). What it says names no password, whatever it was made of."""

    def __str__(self) -> str:
        return masked(super().__str__())


class Refused(Failed):
    """A rule forbids it (exit code 3)."""
