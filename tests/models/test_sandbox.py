"""A template comes with a base: it is sandboxed, and it ends."""

from __future__ import annotations

from pathlib import Path

import jinja2
import pytest

from models.chat import Chat
from models.errors import JobFailed
from models.sandbox import compiled, rendered
from tests.models.templates import chat_of

ENDLESS = {
    "loops in loops": "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}",
    "a loop over a text": "{% for a in messages %}{% for b in 'xxxxxxxx' * 1000 %}{% for c in 'x' * 9999 %}{% endfor %}{% endfor %}{% endfor %}",
    "a huge text": "{{ 'x' * 999999999 }}",
    "a text that doubles": "{% set n = namespace(x='xx') %}{% for a in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}{{ n.x }}",
    "a sum that doubles": "{% set n = namespace(x='xx') %}{% for a in range(60) %}{% set n.x = n.x + n.x %}{% endfor %}{{ n.x }}",
    "a list that grows": "{% set n = namespace(x=[1]) %}{% for a in range(60) %}{% set n.x = n.x + n.x %}{% endfor %}",
    "much output": "{% for a in range(99999) %}{{ 'x' * 1000 }}{% endfor %}",
    "a macro that calls itself": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "a macro that calls itself twice": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "a large number": "{{ 9 ** 9 ** 9 }}",
    "a wide text": "{{ 'x' | center(999999999) }}{{ 'x'.ljust(999999999) }}",
    "a wide format": "{{ '%999999999d' % 1 }}",
}


@pytest.mark.parametrize("template", ENDLESS.values(), ids=ENDLESS)
def test_what_loops_or_grows_without_a_bound_is_refused(template: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.sandbox.STEPS", 100_000)  # as many as there are take seconds of looping
    with pytest.raises(jinja2.TemplateError):
        rendered(compiled(template), {"messages": [1, 2, 3]})


def test_what_is_not_for_templates_is_refused() -> None:
    for template in (
        "{{ messages.append(1) }}",
        "{{ ''.__class__.__mro__ }}",
        "{{ messages.nothing.at_all }}",
        "{{ 1 + 'x' }}",
    ):
        with pytest.raises(jinja2.TemplateError):
            rendered(compiled(template), {"messages": []})


def test_a_long_conversation_is_no_endless_one() -> None:
    template = "{% for m in messages %}<|{{ m.role }}|>{{ m.content | trim }}{% if loop.last %}!{% endif %}{% endfor %}"
    messages = [{"role": "user", "content": " x "}] * 20_000
    assert rendered(compiled(template), {"messages": messages}) == "<|user|>x" * 20_000 + "!"


@pytest.mark.parametrize(
    ("template", "why"),
    [
        (ENDLESS["loops in loops"], "does not end"),
        ("hello", "leaves out what the user says"),
        ("{{ raise_exception('never') }}", "never"),
        ("{% for %}", "can't be read"),
    ],
)
def test_of_a_base_whose_template_can_not_be_used_one_sentence_says_why(
    chat: Chat, tmp_path: Path, template: str, why: str
) -> None:
    with pytest.raises(JobFailed, match=why):
        chat_of(tmp_path, chat.tokenizer, template)
