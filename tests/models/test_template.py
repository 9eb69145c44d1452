"""Templates run in a process of their own: whatever one does, whoever asked has a sentence, and goes on."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import jinja2
import pytest

from models.errors import JobFailed
from models.template import LIMITS, Limits, Template, TemplateProcess

QUICK = Limits(cpu_s=1, wall_s=60, memory_bytes=LIMITS.memory_bytes)
NESTED = "{% set n = namespace(x=[1]) %}{% for a in range(60) %}{% set n.x = [n.x, n.x] %}{% endfor %}"
ONE = [{"role": "user", "content": "x"}]

HARMFUL = {
    "a list of lists, written": NESTED + "{{ n.x | tojson }}",
    "a list of lists, as text": NESTED + "{{ n.x }}",
    "a list of lists, counted while it is read": "{% if 'x' %}{{ "
    + "[" * 50
    + "1"
    + "]" * 50
    + " }}{% endif %}"
    + NESTED
    + "{{ n.x ~ '' }}",
    "a long text, again and again": "{% set x = 'x' * 3000000 %}{% for a in range(90000) %}{% set y = x | upper | lower %}{% endfor %}",
    "much that is kept": (
        "{% set n = namespace(x=[]) %}{% for a in range(9000) %}{% set n.x = n.x + ['x' * 3000000 ~ a] %}{% endfor %}"
    ),
}


@pytest.fixture
def process() -> Iterator[TemplateProcess]:
    process = TemplateProcess(QUICK)
    yield process
    process.close()


@pytest.mark.parametrize("text", HARMFUL.values(), ids=HARMFUL)
def test_what_no_count_bounds_is_ended_by_the_process_limits(process: TemplateProcess, text: str) -> None:
    with pytest.raises(jinja2.TemplateError, match=r"processor time|memory"):
        Template(text, process).rendered({"messages": ONE})
    assert Template("{{ messages[0].content }}", process).rendered({"messages": ONE}) == "x"


def test_a_template_that_is_none_says_so_at_once(process: TemplateProcess) -> None:
    with pytest.raises(jinja2.TemplateError, match="Expected an expression"):
        Template("{% for %}", process)


def test_what_grows_while_a_template_is_read_is_bounded_too(process: TemplateProcess) -> None:
    text = "{{ 'x'" + " | replace('x', 'xxxxxxxxxx')" * 12 + " }}"
    with pytest.raises(jinja2.TemplateError, match=r"memory|processor time"):
        Template(text, process).rendered({"messages": ONE})


@pytest.mark.parametrize("of", ["''", "strftime_now", "cycler", "messages", "raise_exception"])
def test_what_objects_have_is_not_for_templates(process: TemplateProcess, of: str) -> None:
    for name in ("__class__", "__globals__", "__init__", "__reduce_ex__"):
        with pytest.raises(jinja2.TemplateError, match=r"unsafe|has no attribute"):
            Template(f"{{{{ {of}.{name}.x }}}}", process).rendered({"messages": []})


def test_a_template_that_was_stopped_three_times_is_not_asked_again(process: TemplateProcess) -> None:
    template = Template("{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}", process)
    for _ in range(2):
        with pytest.raises(jinja2.TemplateError, match="does not end"):
            template.rendered({"messages": ONE})
    with pytest.raises(JobFailed, match=r"stopped 3 times.*choose another base"):
        template.rendered({"messages": ONE})
    process.close()
    with pytest.raises(JobFailed, match="stopped 3 times"):
        template.rendered({"messages": ONE})


def test_of_huge_conversations_a_template_is_not_to_blame(process: TemplateProcess) -> None:
    text = "{% for a in messages %}{% for b in messages %}{% endfor %}{% endfor %}{{ messages | length }}"
    template = Template(text, process)
    for _ in range(4):
        with pytest.raises(jinja2.TemplateError, match="does not end"):
            template.rendered({"messages": ONE * 2_000})
    assert template.rendered({"messages": ONE}) == "1"


def test_a_process_that_was_killed_is_started_again(process: TemplateProcess) -> None:
    template = Template("{{ messages[0].content }}", process)
    process.kill()
    assert template.rendered({"messages": ONE}) == "x"


def test_after_it_was_closed_it_starts_again_when_it_is_asked(process: TemplateProcess) -> None:
    template = Template("{{ messages[0].content }}", process)
    process.close()
    assert template.rendered({"messages": ONE}) == "x"


def test_threads_get_their_own_answers(process: TemplateProcess) -> None:
    template = Template("{{ messages[0].content }}", process)
    found: dict[int, list[str]] = {}

    def ask(number: int) -> None:
        found[number] = [template.rendered({"messages": [{"content": f"{number}-{n}"}]}) for n in range(50)]

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {number: [f"{number}-{n}" for n in range(50)] for number in range(4)}


@pytest.mark.parametrize("text", ["\ud83d", "\x00\n\r\u2028", "é" * 70_000], ids=["surrogate", "control", "long"])
def test_every_text_comes_through(process: TemplateProcess, text: Any) -> None:
    assert Template("{{ messages[0] }}", process).rendered({"messages": [text]}) == text


def test_the_day_is_the_one_that_is_given(process: TemplateProcess) -> None:
    template = Template("{{ strftime_now('%d %b %Y') }} {{ date_string }}", process)
    assert template.rendered({"messages": [], "date_string": "x"}, day="2001-02-03") == "03 Feb 2001 x"
