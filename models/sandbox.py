"""Chat templates run here: sandboxed as transformers has it, and bounded. A template comes with a base, and may loop.

What is bounded here is counted, not timed, so that the same template is refused everywhere: steps of loops and calls, and the
size of numbers and texts. What no count finds (a list of lists of lists, written out) ends with the process: all this runs in
one of its own (models.template_process).
"""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from datetime import datetime
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from feedback.clock import SystemClock

STEPS = 2_000_000
"""Of loops and calls in one rendering: a conversation of 20,000 messages takes a tenth; it is a second or two of looping."""
LONGEST = 4_000_000
"""Characters of a text or items of a list in a template, and the largest number that it may multiply up to."""

_WIDE = re.compile(r"\d{5}|\*")


class Unbounded(jinja2.TemplateRuntimeError):
    """The template does not end, or makes too much: no refusal of its own."""


_left: ContextVar[list[int]] = ContextVar("steps left")


def compiled(text: str) -> jinja2.Template:
    """The template, to be rendered with `rendered` only. Raises jinja2.TemplateError where it is none."""
    return _environment().from_string(text)


def rendered(template: jinja2.Template, variables: dict[str, Any]) -> str:
    """What the template makes of these. Raises jinja2.TemplateError where it refuses, does not end or grows too big."""
    token = _left.set([STEPS])
    try:
        parts, size = list[str](), 0
        for part in template.generate(variables):
            _tick()
            size += len(part)
            parts.append(part)
            if size > LONGEST:
                raise Unbounded(f"it writes more than {LONGEST:,} characters")
        return "".join(parts)
    except RecursionError:
        raise Unbounded("it calls itself without an end") from None
    except MemoryError:
        raise Unbounded("it takes more memory than it may") from None
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise jinja2.TemplateRuntimeError(f"{type(error).__name__}: {error}"[:300]) from None
    finally:
        _left.reset(token)


class _Bounded(ImmutableSandboxedEnvironment):
    """Loops, calls, arithmetic and joined texts are looked at."""

    intercepted_binops = frozenset({"*", "**", "+", "%"})

    def _generate(self, source: nodes.Template, *arguments: Any, **options: Any) -> str:
        for loop in source.find_all(nodes.For):
            loop.iter = nodes.Filter(loop.iter, "bounded_loop", [], [], None, None)
        grown: list[nodes.Expr] = [*source.find_all(nodes.Concat)]
        for joined in grown:
            assert isinstance(joined, nodes.Concat)
            joined.nodes = [nodes.Filter(part, "bounded_size", [], [], None, None) for part in joined.nodes]
        return super()._generate(source, *arguments, **options)

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        _tick()
        for argument in (*args, *kwargs.values()):
            _sized(argument)
        return _sized(super().call(__context, __obj, *args, **kwargs))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        _tick()
        return _sized(_binop(operator, left, right))


def _binop(sign: str, left: Any, right: Any) -> Any:
    if sign == "*":
        for several, times in ((left, right), (right, left)):
            if isinstance(several, str | list | tuple) and isinstance(times, int) and len(several) * times > LONGEST:
                raise Unbounded(f"it makes a text or list of more than {LONGEST:,}")
        return left * right
    if sign == "**":
        if not (isinstance(right, int | float) and abs(right) <= 64):
            raise Unbounded("it takes too large a power")
        return left**right
    if sign == "%" and isinstance(left, str) and _WIDE.search(left):
        raise Unbounded("it formats with a width that has no bound")
    return operator.add(left, right) if sign == "+" else left % right


def _sized(value: Any) -> Any:
    """The value, where it is no larger than a template may make it."""
    if isinstance(value, str | list | tuple | dict):
        if len(value) > LONGEST:
            raise Unbounded(f"it makes a text or list of more than {LONGEST:,}")
    elif isinstance(value, int) and abs(value) > LONGEST:
        raise Unbounded(f"it counts beyond {LONGEST:,}")
    return value


def _loop(values: Iterable[Any]) -> Iterator[Any]:
    for value in values:
        _tick()
        yield value


def _tick() -> None:
    left = _left.get()
    left[0] -= 1
    if left[0] < 0:
        raise Unbounded(f"it does not end within {STEPS:,} steps")


class _Generation(Extension):
    """`{% generation %}` marks an assistant's words for who trains on them; here it changes nothing."""

    tags = {"generation"}

    def parse(self, parser: Any) -> Any:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _environment() -> ImmutableSandboxedEnvironment:
    """As transformers has it: templates are written for that."""
    environment = _Bounded(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, "jinja2.ext.loopcontrols"])
    environment.filters |= {"tojson": _tojson, "bounded_loop": _loop, "bounded_size": _sized}
    for unbounded in ("center", "format", "indent", "slice", "batch"):
        environment.filters[unbounded] = _checked(environment.filters[unbounded])
    environment.globals |= {"raise_exception": _refuse, "strftime_now": _now}
    return environment


def _checked(filter_: Any) -> Any:
    """A filter that may make much of little: no number given to it is large."""

    def checked(value: Any, *arguments: Any, **named: Any) -> Any:
        for argument in (value, *arguments, *named.values()):
            if isinstance(argument, int) and abs(argument) > 10_000:
                raise Unbounded(f"it fills up to {argument:,} characters")
        return _sized(filter_(value, *arguments, **named))

    return checked


def _tojson(value: Any, ensure_ascii: bool = False, **how: Any) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, **how)


def _refuse(message: str) -> None:
    raise jinja2.TemplateError(message)


def _now(form: str) -> str:
    return datetime.fromtimestamp(SystemClock().now_us() / 1e6).strftime(form)
