"""Passwords in addresses are masked wherever a text holds one, and nothing else is."""

from __future__ import annotations

import time
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedback.masking import masked, masked_within

SECRET = "hunter2"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://ann:hunter2@host/v1", "http://ann:***@host/v1"),
        ("http://:hunter2@host/v1", "http://:***@host/v1"),
        ("https://hunter2@host/v1", "https://***@host/v1"),
        ("kafka://a:hunter2@h1:9092,b:hunter2@h2:9092", "kafka://a:***@h2:9092"),
        ("postgresql+psycopg://ann:hunter2@db:5432/trimtab", "postgresql+psycopg://ann:***@db:5432/trimtab"),
        ("postgresql://ann@db/trimtab", "postgresql://ann@db/trimtab"),
        ("postgresql://ann:hun/hunter2@db/trimtab", "postgresql://ann:***@db/trimtab"),
        ("postgresql://ann:hun#hunter2@db/trimtab", "postgresql://ann:***@db/trimtab"),
        ("postgresql://ann:hunter2@x@db/trimtab", "postgresql://ann:***@db/trimtab"),
        ("postgresql://db/t?user=ann&password=hunter2&x=1", "postgresql://db/t?user=ann&password=***&x=1"),
        ("https://host/v1?api_key=hunter2", "https://host/v1?api_key=***"),
        ("https://host/v1#access_token=hunter2", "https://host/v1#access_token=***"),
        ("'ann:hunter2@broker:9092' is no host", "'ann:***@broker:9092' is no host"),
        ("host=db user=ann password=hunter2 dbname=x", "host=db user=ann password=*** dbname=x"),
        ("('http://ann:hunter2@host', 3)", "('http://ann:***@host', 3)"),
        ('{"url":"http://ann:hunter2@host"}', '{"url":"http://ann:***@host"}'),
    ],
)
def test_what_stands_for_a_password_is_masked(text: str, shown: str) -> None:
    assert masked(text) == shown
    assert SECRET not in masked(text)


@pytest.mark.parametrize(
    "text",
    [
        "", "nothing", "http://127.0.0.1:8000/v1", "https://example.org/@ann", "https://[::1]:8400/@x", "ann@example.org",
        "kafka://h1:9092,h2:9092", "12:30 @ the office", "image: name:tag@sha256", "http://host/?page=2&name=ann",
        "see https://a.example/x, or mail b@c.example", "sqlite://", "the password is missing", "file:///etc/ann/key.txt",
    ],
)  # fmt: skip
def test_what_holds_none_stays(text: str) -> None:
    assert masked(text) == text


PARTS = st.text("aé%:/@?#&=+ '[]", max_size=6)


@given(before=PARTS, after=PARTS, user=st.sampled_from(["", "ann", "a%40b"]), scheme=st.sampled_from(["http", "kafka"]))
def test_no_password_gets_through_however_it_is_written(before: str, after: str, user: str, scheme: str) -> None:
    password = quote(before, safe="") + SECRET + quote(after, safe="")
    assert SECRET not in masked(f"{scheme}://{user}:{password}@host.example:80/v1 can't be reached")
    assert masked(masked(before + after)) == masked(before + after)


def test_a_document_is_masked_as_deep_as_it_goes() -> None:
    address = f"http://ann:{SECRET}@host"
    document = {address: [address, (address, 1, None)], "b": {"c": address}}
    assert SECRET not in str(masked_within(document))
    assert masked_within({"a": [1, None, True]}) == {"a": [1, None, True]}


WORST = ["a:", "a", "://", "&key", "x:y@", "http://", "http://?key", "a://b:c@"]


@pytest.mark.parametrize("worst", WORST)
def test_the_worst_text_takes_no_time_to_speak_of(worst: str) -> None:
    begun = time.process_time()
    masked(f"x://{worst * (50_000 // len(worst))} @ = ://")
    assert time.process_time() - begun < 5
