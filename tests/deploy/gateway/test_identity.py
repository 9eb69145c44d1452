from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.gateway.identity import HEADER, MAX_BEGINNING, beginning_of, header_value, identify
from deploy.web.errors import ApiError

HELLO = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]
texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=30).map(str.strip).filter(bool)


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


@given(st.lists(st.tuples(texts, texts), max_size=6))
def test_a_conversation_keeps_its_id_as_it_grows(exchanges: list[tuple[str, str]]) -> None:
    messages, first = list(HELLO), beginning_of("t", None, HELLO)
    for reply, question in exchanges:
        messages += [assistant(reply), user(question)]
        assert beginning_of("t", None, messages) == first


def test_another_tenant_user_system_prompt_or_opening_is_another_conversation() -> None:
    others = [
        beginning_of("t", None, HELLO),
        beginning_of("u", None, HELLO),
        beginning_of("t", "ann", HELLO),
        beginning_of("t", None, HELLO[1:]),
        beginning_of("t", None, [HELLO[0], user("Hi")]),
        beginning_of("t", None, [HELLO[0], assistant("Welcome"), HELLO[1]]),
    ]
    assert len(set(others)) == len(others)


def test_metadata_goes_before_the_header_and_the_header_before_the_messages() -> None:
    body = {"metadata": {"conversation_id": "from-body"}}
    assert identify("t", body, HELLO, "from-header").conversation_id == "from-body"
    assert identify("t", {}, HELLO, "from-header").conversation_id == "from-header"
    assert identify("t", {}, HELLO, None).conversation_id == beginning_of("t", None, HELLO)
    assert identify("t", {}, HELLO, " ").conversation_id == beginning_of("t", None, HELLO)


def test_the_safety_identifier_goes_before_the_user() -> None:
    assert identify("t", {"safety_identifier": "s", "user": "u"}, HELLO, None).user_id == "s"
    assert identify("t", {"user": "u"}, HELLO, None).user_id == "u"
    assert identify("t", {}, HELLO, None).user_id is None


def test_metadata_without_a_meaning_of_its_own_becomes_tags() -> None:
    found = identify("t", {"metadata": {"conversation_id": "c", "locale": "de-DE", "app": "web"}}, HELLO, None)
    assert (found.locale, found.tags) == ("de-DE", {"app": "web"})


@given(texts)
def test_a_conversation_id_survives_the_header(text: str) -> None:
    encoded = header_value(text)
    assert encoded.isascii()
    assert encoded.isprintable()
    assert identify("t", {}, HELLO, encoded).conversation_id == text


@pytest.mark.parametrize(
    ("body", "header", "param"),
    [
        ({"metadata": []}, None, "metadata"),
        ({"metadata": {"a": 1}}, None, "metadata"),
        ({"metadata": {f"k{n}": "v" for n in range(35)}}, None, "metadata"),
        ({"metadata": {f"k{n}": "v" for n in range(33)}}, None, "metadata"),
        ({"metadata": {"a": "v" * 513}}, None, "metadata"),
        ({"metadata": {"conversation_id": "a\nb"}}, None, "metadata.conversation_id"),
        ({"metadata": {"conversation_id": "ü" * 80}}, None, "metadata.conversation_id"),
        ({"metadata": {"locale": "x" * 300}}, None, "metadata.locale"),
        ({"user": 5}, None, "user"),
        ({"safety_identifier": "a\x00"}, None, "safety_identifier"),
        ({}, "a%0d%0aSet-Cookie: x", HEADER),
    ],
)
def test_what_does_not_fit_is_named(body: dict[str, Any], header: str | None, param: str) -> None:
    with pytest.raises(ApiError) as raised:
        identify("t", body, HELLO, header)
    assert (raised.value.status, raised.value.param) == (400, param)


def test_a_picture_of_megabytes_is_told_by_its_ends_and_what_is_asked_about_it() -> None:
    def beginning(url: str, said: str = "What is it?", first: bool = True) -> str:
        parts = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": said}]
        return beginning_of("acme", None, [user(parts if first else parts[::-1])])

    long = "data:image/png;base64," + "QUJD" * MAX_BEGINNING
    assert beginning(long) == beginning(long[:400_000] + "X" + long[400_001:])
    deep = {"type": "image_url", "image_url": {"a": [long]}}
    assert beginning_of("acme", None, [user([deep])]) != beginning_of("acme", None, [user([deep, deep])])
    told = [beginning(long), beginning(long, "Who is it??"), beginning(long, first=False), beginning("X" + long[1:])]
    told += [beginning(long + "QUJD"), beginning(long, "Who is it??", first=False)]
    assert len(set(told)) == len(told)


def test_a_beginning_of_megabytes_is_told_by_its_first_characters_and_its_length() -> None:
    def said(*texts: str) -> str:
        return beginning_of("acme", None, [{"role": "system", "content": text} for text in texts])

    long = "x" * MAX_BEGINNING
    assert (
        len({said(long), said(long + "a"), said(long + "ab"), said("y" + long), said(long, "a"), said("a", long)}) == 6
    )
    assert said(long + "a") == said(long + "b")
    parts = [{"type": "text", "text": long}, {"type": "text", "text": "more"}, {"type": "refusal", "refusal": "no"}]
    assert beginning_of("acme", None, [{"role": "user", "content": parts}]).startswith("c-")
    assert parts[1]["text"] == "more"
