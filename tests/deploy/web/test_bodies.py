"""Bodies: what their bytes tell at a glance is what a walk through them finds."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.web import bodies
from deploy.web.bodies import MAX_DEPTH, MAX_NODES, crowded, harmless, json_object
from deploy.web.errors import ApiError

TEXTS = st.text(max_size=5) | st.sampled_from(["a\x00", "\\u0000", "1" * 30])
SCALARS = (
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | TEXTS
)
ANYTHING = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3), max_leaves=20
)


def wrapped(value: Any, depth: int, in_lists: bool) -> dict[str, Any]:
    """`value` so deep in an object."""
    for _ in range(depth - 1):
        value = [value] if in_lists else {"a": value}
    return {"a": value}


def may_be_kept(value: Any, depth: int = 0) -> bool:
    """What is promised, said slowly."""
    if depth >= MAX_DEPTH:
        return False
    if isinstance(value, dict):
        return all(may_be_kept(inner, depth + 1) for inner in [*value, *value.values()])
    if isinstance(value, list):
        return all(may_be_kept(inner, depth + 1) for inner in value)
    if isinstance(value, str):
        return "\x00" not in value
    return not isinstance(value, int) or -(2**63) <= value < 2**64


@given(ANYTHING, st.sampled_from([1, 2, 60, 62, 63, 64, 65]), st.booleans(), st.booleans())
def test_what_is_refused_does_not_depend_on_the_glance(value: Any, depth: int, lists: bool, ascii_only: bool) -> None:
    document = wrapped(value, depth, lists)
    raw = json.dumps(document, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    if may_be_kept(document):
        assert json_object(raw) == document
    else:
        assert not harmless(raw)
        with pytest.raises(ApiError):
            json_object(raw)


def nodes(value: Any) -> int:
    """Values and names."""
    if isinstance(value, dict):
        return 1 + len(value) + sum(map(nodes, value.values()))
    return 1 + (sum(map(nodes, value)) if isinstance(value, list) else 0)


NOISE = st.text('a"\\,:[]{}', max_size=20)


@given(
    st.recursive(
        NOISE | st.integers(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NOISE, inner, max_size=4),
        max_leaves=30,
    ),
    st.integers(1, 60),
)
def test_a_body_is_crowded_by_its_values_whatever_stands_in_its_texts(value: Any, most: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bodies, "MAX_NODES", most)
        raw, count = json.dumps(value).encode(), nodes(value)
        empty = raw.count(b"[]") + raw.count(b"{}")  # an empty one counts as if something were in it
        assert crowded(raw) >= (count > most)
        assert crowded(raw) <= (count + empty > most)


@pytest.mark.parametrize(
    "raw",
    [
        b"[" * 10_000_000,
        b"[]," * 3_000_000,
        b'{"a":[' + b"{}," * 3_000_000 + b"1]}",
        b"{" + b",".join(b'"%d":1' % number for number in range(1_000_000)) + b"}",
        b'{"a":[' + b'"",' * 3_000_000 + b"1]}",
        b'{"a":"' + b'\\"' * 4_000_000,
        b'"' * 9_000_000,
        b'{"a":' + b"[" * 90_000,
    ],
    ids=["brackets", "lists", "objects", "keys", "texts", "escapes", "quotes", "few brackets"],
)
def test_what_would_cost_much_to_decode_is_never_decoded(raw: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = 0
    decode = bodies.msgspec.json.decode

    def counted(raw: bytes) -> Any:
        nonlocal decoded
        document = decode(raw)
        decoded += 1
        return document

    monkeypatch.setattr(bodies.msgspec.json, "decode", counted)
    with pytest.raises(ApiError) as refused:
        json_object(raw)
    assert (refused.value.status, decoded) == (400, 0)


def test_a_long_text_is_no_crowd() -> None:
    text = 'if (a[0]) { return "x, y"; }\\ ' * 200_000
    assert json_object(json.dumps({"a": text}).encode()) == {"a": text}
    assert crowded(json.dumps([0] * (MAX_NODES + 1)).encode())
