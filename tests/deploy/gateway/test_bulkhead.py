import threading
from concurrent.futures import CancelledError

import pytest

from deploy.gateway.bulkhead import Bulkhead
from tests.fakes import DEADLINE_S


def test_what_a_call_returns_or_raises_is_its_futures() -> None:
    calls = Bulkhead(2, "test")
    assert calls.submit(lambda: 42).result(DEADLINE_S) == 42
    with pytest.raises(ZeroDivisionError):
        calls.submit(lambda: 1 / 0).result(DEADLINE_S)
    calls.close()


def test_of_more_calls_than_threads_one_that_is_cancelled_is_never_made() -> None:
    calls, go, made = Bulkhead(1, "test"), threading.Event(), list[int]()
    hanging = calls.submit(go.wait)
    given_up, waiting = calls.submit(lambda: made.append(1)), calls.submit(lambda: made.append(2))
    assert given_up.cancel()
    go.set()
    waiting.result(DEADLINE_S)
    assert hanging.result(DEADLINE_S)
    with pytest.raises(CancelledError):
        given_up.result(DEADLINE_S)
    assert made == [2]
    calls.close()


def test_what_is_closed_refuses() -> None:
    calls = Bulkhead(1, "test")
    calls.close()
    with pytest.raises(RuntimeError):
        calls.submit(lambda: 42)
