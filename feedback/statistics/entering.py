"""With which probability a unit is drawn into the candidate's arm: what makes a rising share valid."""

from __future__ import annotations


def entry_share(share: float, seen_as_incumbent: float | None) -> float:
    """The probability with which a unit whose window has closed enters again: to be stored as its stratum's share.

    A unit is drawn by its fixed place in [0, 1), below the share or not. One that was the incumbent's at a share of s_low is known
    to stand above that, so it enters with (share - s_low) / (1 - s_low); taking the share itself gave 10-48% false rollbacks.
    `seen_as_incumbent` is the highest such share, None where it is new. 0 where the share has not risen since: then it does not enter.
    One that was the candidate's never enters again.

    >>> round(entry_share(0.25, 0.05), 4)
    0.2105
    """
    low = seen_as_incumbent or 0.0
    return max(0.0, (share - low) / (1 - low))
