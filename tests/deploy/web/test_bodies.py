"""Bodies: what their bytes tell at a glance is what a walk through them finds."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.web.bodies import MAX_DEPTH, harmless, json_object
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
