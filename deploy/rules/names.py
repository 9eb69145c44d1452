"""How a policy is called in a sentence; commands take it as it is written there."""

from __future__ import annotations

SHORT = 12
"""Characters of a digest that are shown."""


def short(digest: str) -> str:
    """A digest in a sentence."""
    return digest[:SHORT]


def policy_name(digest: str | None) -> str:
    """An adapter by the beginning of its digest; None is the bare base.

    >>> policy_name(None)
    'the bare base'
    """
    return short(digest) if digest is not None else "the bare base"


def percent(share: float) -> str:
    """
    >>> percent(0.05)
    '5%'
    """
    return f"{share * 100:g}%"
