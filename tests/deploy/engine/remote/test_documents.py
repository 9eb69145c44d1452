"""Deep documents are refused, broad ones are not."""

from __future__ import annotations

import pytest

from deploy.engine.remote.documents import MAX_DEPTH, decoded


@pytest.mark.parametrize(("begin", "end"), [(b"[", b"]"), (b'{"a":', b"}"), (b'[1,{"a":2,"b":', b"}]")])
def test_what_is_deeper_than_allowed_is_refused_and_what_is_as_deep_is_not(begin: bytes, end: bytes) -> None:
    each = 1 if len(end) == 1 else 2
    most = MAX_DEPTH // each
    assert decoded(begin * most + b"1" + end * most)
    with pytest.raises(RecursionError):
        decoded(begin * (most + 1) + b"1" + end * (most + 1))


def test_a_document_with_many_brackets_is_not_a_deep_one() -> None:
    tokens = b'{"token": "[{", "top_logprobs": []},' * 500
    assert len(decoded(b"[" + tokens + b'"' + b"[{" * 500 + b'"]')) == 501
    assert decoded(b'"' + b"[" * 500 + b'"') == "[" * 500
