"""The shape of JSON: what its bytes tell in pieces is what a walk through what they stand for finds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.web import json_shape
from deploy.web.errors import ApiError
from deploy.web.json_shape import MAX_DEPTH, MAX_NODES, Shape, harmless

NOISE = st.text('a"\\,:[]{}0\x00-', max_size=20) | st.sampled_from(["\\u0000", "1" * 30, "\\", '\\"', "é", "😀"])
SCALARS = st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**70), 2**70)
ANYTHING = st.recursive(
    SCALARS | NOISE,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NOISE, inner, max_size=4),
    max_leaves=30,
)


def shape_of(raw: bytes, *cuts: int) -> Shape:
    """Its shape, where it comes in pieces that end there."""
    shape = Shape("body")
    for begin, end in zip([0, *cuts], [*cuts, len(raw)], strict=True):
        shape.add(raw[begin:end])
    shape.end()
    return shape


def refused(raw: bytes, *cuts: int) -> ApiError:
    with pytest.raises(ApiError) as error:
        shape_of(raw, *cuts)
    return error.value


def nodes(value: Any) -> int:
    """Values and names; an empty list or object counts as if something were in it."""
    if isinstance(value, dict):
        return 1 + sum(1 + nodes(inner) for inner in value.values()) + (not value)
    return 1 + sum(map(nodes, value)) + (not value) if isinstance(value, list) else 1


def depth(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(depth, inner), default=0)


def walked(value: Any) -> Iterator[Any]:
    yield value
    if isinstance(value, dict | list):
        for inner in [*value, *value.values()] if isinstance(value, dict) else value:
            yield from walked(inner)


def unkept(value: Any) -> bool:
    """Whether there is anything in it that no record may hold."""
    return any(
        "\x00" in inner if isinstance(inner, str) else isinstance(inner, int) and not -(2**63) <= inner < 2**64
        for inner in walked(value)
    )


@settings(max_examples=100)
@given(ANYTHING, st.booleans(), st.booleans(), st.data())
def test_a_shape_is_that_of_the_value_wherever_its_bytes_are_cut(
    value: Any, ascii_only: bool, spaced: bool, data: st.DataObject
) -> None:
    separators = (" ,\n", " : ") if spaced else (",", ":")
    raw = json.dumps(value, ensure_ascii=ascii_only, separators=separators).encode("utf-8", "surrogatepass")
    shape = shape_of(raw, *sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=6))))
    assert (shape.nodes, shape.unkept is not None) == (nodes(value), unkept(value))


@settings(max_examples=100)
@given(ANYTHING, st.integers(1, 8), st.booleans())
def test_what_is_nested_too_deep_is_refused_and_nothing_else(value: Any, most: int, ascii_only: bool) -> None:
    raw = json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_shape, "MAX_DEPTH", most)
        if depth(value) > most:
            assert refused(raw, len(raw) // 2).code == "too_deep"
        else:
            shape_of(raw, len(raw) // 2)


@pytest.mark.parametrize(("deep", "fits"), [(MAX_DEPTH, True), (MAX_DEPTH + 1, False)])
@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_the_deepest_that_is_taken(deep: int, fits: bool, opening: bytes, closing: bytes) -> None:
    raw = b"[[],[]," * 1 + opening * (deep - 1) + b"1" + closing * (deep - 1) + b"]"
    if fits:
        shape_of(raw)
    else:
        assert refused(raw).code == "too_deep"


@settings(max_examples=100)
@given(ANYTHING, st.integers(1, 60))
def test_a_body_is_crowded_by_its_values_whatever_stands_in_its_texts(value: Any, most: int) -> None:
    raw = json.dumps(value).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_shape, "MAX_NODES", most)
        if nodes(value) > most:
            assert refused(raw).code == "too_many_values"
        else:
            shape_of(raw)


@pytest.mark.parametrize(
    ("number", "kept"),
    [
        (b"9223372036854775808", True),
        (b"18446744073709551615", True),
        (b"18446744073709551616", False),
        (b"-9223372036854775808", True),
        (b"-9223372036854775809", False),
        (b"0.12345678901234567890123", True),
        (b"12345678901234567890123.5", True),
        (b"12345678901234567890123e5", True),
        (b"1e-0000000000000000000000000001", True),
        (b"1" * 900, False),
    ],
)
def test_a_whole_number_of_more_than_64_bits_is_told_from_a_fraction_wherever_it_is_cut(
    number: bytes, kept: bool
) -> None:
    raw = b'{"a":[1,' + number + b'],"b":2}'
    assert [shape_of(raw, at).unkept is None for at in range(len(raw))] == [kept] * len(raw)


@pytest.mark.parametrize("raw", [b'{"a":' + b"1" * 5_000 + b"}", b'{"a":0.' + b"3" * 9_000_000 + b"}"])
def test_numbers_without_end_are_refused(raw: bytes) -> None:
    assert "1000 digits" in refused(raw).message


@pytest.mark.parametrize("text", [rb"\u0000", rb"a\\\u0000", rb"\"\u0000\""])
def test_a_nul_is_seen_wherever_it_is_cut(text: bytes) -> None:
    raw = b'{"a":"' + text + b'"}'
    assert all(shape_of(raw, at).unkept == "holds a NUL character" for at in range(len(raw)))
    harmless = b'{"a":"' + text.replace(rb"\u", rb"\\u") + b'"}'
    assert all(shape_of(harmless, at).unkept is None for at in range(len(harmless)))


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"[" * 10_000_000, "too_deep"),
        (b"[]," * 3_000_000, "too_many_values"),
        (b'{"a":[' + b"{}," * 3_000_000, "too_many_values"),
        (b'{"a":[' + b'"",' * 3_000_000, "too_many_values"),
        (b'{"a":' * 2_000_000, "too_deep"),
        (b'"' * 9_000_000, "too_many_values"),
        (b'{"a":"' + b'\\"' * 4_000_000, "too_many_escapes"),
        (b'{"a":"' + b"\\n" * 4_000_000, "too_many_escapes"),
    ],
)
def test_too_much_is_refused_long_before_all_of_it_has_come(raw: bytes, code: str) -> None:
    came = iter(range(0, len(raw), 10_000))
    shape = Shape("body")
    with pytest.raises(ApiError) as error:
        feed(shape, (raw[at : at + 10_000] for at in came))
    assert error.value.code == code
    assert next(came) < len(raw) / (20 if code != "too_many_escapes" else 3)


def feed(shape: Shape, pieces: Iterator[bytes]) -> None:
    for piece in pieces:
        shape.add(piece)


def test_a_long_text_is_no_crowd() -> None:
    text = 'if (a[0]) { return "x, y"; }\\ ' * 100_000
    assert shape_of(json.dumps({"a": text}).encode()).nodes == 3
    assert refused(json.dumps([0] * (MAX_NODES + 1)).encode()).code == "too_many_values"


def test_what_looks_like_json_within_a_text_does_not_count_where_it_is_cut_off() -> None:
    shape = shape_of(b'{"a":"' + b"[{,:" * 100_000 + b'","b":"data:' + b"A" * 200_000 + b'"}')
    assert (shape.nodes, shape.unkept) == (5, None)


@settings(max_examples=100)
@given(ANYTHING, st.booleans())
def test_what_is_harmless_has_a_shape_that_finds_nothing(value: Any, ascii_only: bool) -> None:
    raw = json.dumps(value, ensure_ascii=ascii_only).encode()
    shape = Shape("body")
    if harmless(raw):
        shape.add(raw)
        shape.end()
        assert shape.unkept is None
