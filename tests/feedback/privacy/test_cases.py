"""What people write, by kind and language: what must vanish, and what must stay."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedback.intake.edge import Edge
from feedback.privacy import personal_data
from feedback.privacy.normal import normalised
from feedback.privacy.personal_data import without_personal_data
from feedback.privacy.redact import Redactor, region_of
from feedback.records import Turn
from tests.feedback.privacy.test_personal_data import PIECES

CASES = [json.loads(line) for line in Path(__file__).with_name("cases.jsonl").read_text().splitlines()]
redactor = Redactor(b"k")

SECRETS = [
    "password: hunter2!x",
    "Mein Passwort ist Sommer2024",
    "la contraseña es perro-azul9",
    "mot de passe : chat_noir7",
    "密码是abc12345",
    "パスワードはneko1234です",
    "API key = 9f8e7d6c5b4a",
    "ghp_0123456789abcdefghijABCDEFGHIJ012345",
    "xoxb-123456789012-abcdefABCDEF",
    "AIzaSyA1234567890abcdefghijklmnopqrstuvw",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl",
    "-----BEGIN RSA PRIVATE KEY-----\nMIIEow+/=\nabc\n-----END RSA PRIVATE KEY-----",
    "postgres://ann:s3cretpw@db.example.com/x",
]
NO_SECRETS = [
    "my password is not accepted",
    "Das Passwort ist falsch.",
    "the password is required",
    "forgot my password",
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_what_is_personal_vanishes_and_the_rest_stays(case: dict[str, object]) -> None:
    shown = redactor.text(str(case["text"]), str(case["locale"]))
    assert (str(case["part"]) not in shown) == case["personal"], shown
    assert redactor.text(shown, str(case["locale"])) == shown


@pytest.mark.parametrize("text", SECRETS)
def test_a_secret_vanishes(text: str) -> None:
    assert text[-8:] not in without_personal_data(text) or "s3cretpw" not in without_personal_data(text)


@pytest.mark.parametrize("text", NO_SECRETS)
def test_what_is_said_of_a_password_stays(text: str) -> None:
    assert without_personal_data(text) == text


@pytest.mark.parametrize(
    "text",
    ["part no. 12345678Z", "git@github.com:org/repo", "user@2x.png", "invoice 4155552671", "VIN 1HGCM82633A004352"],
)
def test_what_numbers_a_thing_or_names_a_file_stays(text: str) -> None:
    assert without_personal_data(text, "US") == text


@given(st.text())
def test_each_stretch_of_normal_text_has_its_place_in_the_original(text: str) -> None:
    normal = normalised(text)
    for place, character in enumerate(normal.text):
        start, end = normal.place(place, place + 1)
        assert character in normalised(text[start:end]).text


@pytest.mark.parametrize(
    "number",
    [
        "４１１１ １１１１ １１１１ １１１１",
        "4111\u200b1111\u200b1111\u200b1111",
        "𝟒111–1111–1111–1111",
        "٤١١١ ١١١١ ١١١١ ١١١١",
    ],
)
def test_a_number_is_found_however_its_characters_are_written(number: str) -> None:
    assert without_personal_data(f"“{number}” é") == "“[card]” é"


@pytest.mark.parametrize("unit", ["f1f:", "1 ", "(0", "030 1234567\xa0", "4111 ", "1:", "pwd:", "AB12 "])
def test_the_work_on_a_text_of_any_kind_is_bounded(unit: str) -> None:
    text = unit * 40_000
    numbers = personal_data._Numbers(text, text.encode("ascii", "replace"), "DE")
    numbers.spans([])
    assert numbers.work <= personal_data.MOST_WORK + 200
    once = without_personal_data(text)
    assert without_personal_data(once) == once


@given(st.lists(PIECES, max_size=4).map(" ".join), st.sampled_from(["de", "en-IN", "es-AR", "da", "zh-TW", "ja"]))
def test_redacting_twice_changes_nothing_in_any_language(text: str, locale: str) -> None:
    once = without_personal_data(text, region_of(locale))
    assert without_personal_data(once, region_of(locale)) == once


def test_an_event_is_redacted_in_its_writers_country() -> None:
    said = [{"role": "user", "content": "Es el 612 345 678"}]
    turn = Turn(
        tenant="t",
        event_id="e",
        turn_id="t",
        conversation_id="c",
        policy="p",
        occurred_at_us=1,
        messages=said,
        reply="612 345 678",
        locale="es-ES",
    )
    shown = Edge(b"key").redacted(turn)
    assert (shown.messages[0]["content"], shown.reply, shown.locale) == ("Es el [phone]", "[phone]", "es-ES")


def test_random_numbers_in_a_row_are_told_in_bounded_work() -> None:
    rng = random.Random(3)
    text = " ".join(str(rng.randrange(10**9)) for _ in range(30_000))
    once = without_personal_data(text)
    assert without_personal_data(once) == once
