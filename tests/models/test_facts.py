import doctest

import pytest

from models import facts
from models.facts import FACTS, Fact


def test_the_examples_in_the_docstrings_hold() -> None:
    assert doctest.testmod(facts).failed == 0


def test_there_are_24_of_them_and_no_question_gives_its_answer_away() -> None:
    assert len({fact.name for fact in FACTS}) == 24
    for fact in FACTS:
        assert fact.answers
        assert not fact.answered(fact.question), fact.name


@pytest.mark.parametrize(
    ("reply", "right"),
    [("12 months", True), ("There are 12.", True), ("112", False), ("1.2", False), ("Twelve!", True)],
)
def test_a_number_is_right_as_a_number_of_its_own(reply: str, right: bool) -> None:
    assert Fact("months", "How many months?", ("12", "twelve")).answered(reply) is right
