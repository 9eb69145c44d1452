"""A minute of what bench/fuzz.py does for as long as one likes: the same examples every time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fuzz.properties import PROPERTIES, Property, checked
from tests.fuzz.service import Fuzzed, fuzzed

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("whole loop")]

HERE = {
    "files": 150,
    "verdicts": 300,
    "adapters": 150,
    "reports": 300,
    "events": 150,
    "feedback": 40,
    "labels": 40,
    "chats": 60,
    "topics": 60,
    "judge": 30,
}
"""Examples of each, a minute in all: who is refused waits a little for the answer."""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fuzzed]:
    with fuzzed(tmp_path_factory.mktemp("fuzz")) as made:
        yield made


@pytest.mark.parametrize("one", [one for one in PROPERTIES if not one.live], ids=lambda one: one.name)
def test_whatever_is_read_is_taken_or_refused_with_a_reason(one: Property) -> None:
    checked(one, None, HERE[one.name], derandomize=True)


@pytest.mark.parametrize("one", [one for one in PROPERTIES if one.live], ids=lambda one: one.name)
def test_whatever_is_sent_the_service_goes_on_and_every_event_is_accounted_for(one: Property, service: Fuzzed) -> None:
    checked(one, service, HERE[one.name], derandomize=True)
    service.quiet()
