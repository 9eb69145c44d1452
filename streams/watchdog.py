"""Notices a consumer that quietly stopped: Faust's and Kafka's clients have been seen to, with the process alive and well."""

from __future__ import annotations


class Stalled(Exception):
    """There is work and nothing moves: the process must end, so that another takes over."""


class Watchdog:
    """Told now and then how many records wait and how many were ever done, it raises Stalled when for `after_s` seconds
    the first number grew and the second stood still."""

    def __init__(self, after_s: float) -> None:
        self._after_s = after_s
        self._waiting, self._done, self._since_s = 0, -1, 0.0

    def look(self, waiting: int, done: int, now_s: float) -> None:
        """Note this moment."""
        if waiting == 0 or done != self._done:
            self._waiting, self._done, self._since_s = waiting, done, now_s
        elif waiting > self._waiting and now_s - self._since_s > self._after_s:
            raise Stalled(
                f"{waiting:,} records wait and nothing was done for {now_s - self._since_s:.0f} s: the consumer is stuck"
            )
