"""What a command says when it can't do what was asked: one clear sentence for a person."""


class Failed(Exception):
    """It could not be done (exit code 1)."""


class Refused(Failed):
    """A rule forbids it (exit code 3)."""
