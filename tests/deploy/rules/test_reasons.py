"""Every code has its sentence, made of the figures; what is stored comes back as it was."""

from __future__ import annotations

import doctest
from typing import Any, get_args

import pytest

from deploy.rules import reasons
from deploy.rules.reasons import SENTENCES, Code, Reason, as_json, from_json, in_short, sentence
from deploy.rules.weighing import weigh
from tests.deploy.pairs import compared, label, labelled_as, pair

FIGURES: dict[str, dict[str, Any]] = {
    "not_finite": {"names": ["a", "b", "c", "d", "e", "f", "g"]},
    "unreadable_report": {"error": "Object missing required field `probes`"},
    "report_changed": {},
    "no_op": {"largest": 0.0001, "floor": 0.001},
    "empty": {},
    "too_long": {"ratio": 3.0, "candidate": 60.0, "incumbent": 20.0, "limit": 2.0},
    "too_short": {"ratio": 3.0, "candidate": 20.0, "incumbent": 60.0, "limit": 2.0},
    "length_unknown": {"candidate": 24, "incumbent": 20, "candidate_of": 32, "incumbent_of": 32},
    "unended": {"candidate": 24, "incumbent": 0, "candidate_of": 32, "incumbent_of": 32, "limit": 0.2},
    "repetition": {"share": 0.8, "limit": 0.5},
    "language": {"candidate": 0.5, "incumbent": 0.9, "limit": 0.1},
    "retention_kl": {"prompts": "gate", "kl": 4.0, "limit": 3.0},
    "retention_facts": {"lost": ["a", "b", "c"], "gained": 0, "of": 9, "limit": 2},
    "other_incumbent": {"compared": None, "serves": "a" * 64},
    "no_samples": {},
    "incumbent_empty": {},
    "language_unknown": {},
    "too_few_comparisons": compared(30, 20).figures,
    "wins": compared(180, 80).figures,
    "loses": compared(80, 180).figures,
    "leaked_labels": {"turns": ["t/c/1"]},
    "lineage_unknown": {"why": "the snapshot is gone"},
    "rolled_back": {"times": 1},
    "few_gate_labels": {"few": "3 gate labels (pairs) are few"},
}


def test_the_examples_in_the_docstrings_hold() -> None:
    assert doctest.testmod(reasons).failed == 0


def test_there_is_a_sentence_for_every_code() -> None:
    assert set(SENTENCES) == set(FIGURES) == set(get_args(Code))


@pytest.mark.parametrize("code", sorted(FIGURES))
def test_a_sentence_is_made_of_the_figures_alone(code: Code) -> None:
    said = sentence(Reason(code, FIGURES[code]))
    assert "{" not in said
    assert from_json(as_json([Reason(code, FIGURES[code])])) == (Reason(code, FIGURES[code]),)


def test_many_names_are_counted() -> None:
    assert sentence(Reason("not_finite", FIGURES["not_finite"])) == "not finite: a, b, c, d, e and 2 more"


def test_what_a_report_says_is_never_a_template() -> None:
    assert (
        sentence(Reason("unreadable_report", {"error": "{0.__class__}"})) == "the report can't be judged: {0.__class__}"
    )


def test_the_first_reason_stands_for_all() -> None:
    assert in_short([Reason("empty"), Reason("no_samples")]) == "empty: every sampled reply is empty (and 1 more)"
    assert in_short([]) == "no reason was given"


def test_who_still_has_to_speak_is_named() -> None:
    waiting = weigh([labelled_as(pair(n)) for n in range(4)], True, 1)
    assert sentence(Reason("too_few_comparisons", waiting.figures)) == (
        "blind comparisons: 0 of 4 pairs count, E 1 of 25 that it takes, 4 wait for people (`trimtab label`), "
        "4 wait for the judge: hold"
    )


def test_it_is_said_where_a_second_person_is_wanted() -> None:
    spoken = weigh([labelled_as(one := pair(n, people=2), [label(one, 1.0)][: n % 2]) for n in range(4)], False, 1)
    assert "4 wait for people (`trimtab label`; 2 for a second person): hold" in sentence(
        Reason("too_few_comparisons", spoken.figures)
    )


def test_a_seal_from_before_evidence_was_counted_is_shown_as_it_was() -> None:
    assert (
        sentence(Reason("too_few_comparisons", {"count": 3, "needed": 200}))
        == "3 blind comparisons of 200 needed: hold"
    )
