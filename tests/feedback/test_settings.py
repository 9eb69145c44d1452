import pytest
from pydantic import ValidationError

from feedback.settings import JudgeSettings, WindowSettings


@pytest.mark.parametrize(
    ("given", "configured"),
    [
        ({}, False),
        ({"base_url": "http://127.0.0.1:8000/v1"}, False),
        ({"model": "judge"}, False),
        ({"base_url": "http://127.0.0.1:8000/v1", "model": "judge"}, True),
    ],
)
def test_there_is_a_judge_only_where_it_is_said_which_and_where(given: dict[str, str], configured: bool) -> None:
    assert JudgeSettings.model_validate(given).configured is configured


def test_a_key_that_is_misspelt_is_an_error_that_names_it() -> None:
    with pytest.raises(ValidationError, match="max_exchange"):
        WindowSettings.model_validate({"max_exchange": 5})


def test_settings_do_not_change_once_they_are_parsed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        WindowSettings().max_per_user = 5  # type: ignore[misc]


def test_the_judges_key_shows_nowhere() -> None:
    settings = JudgeSettings.model_validate({"api_key": "sk-very-secret"})
    assert "sk-very-secret" not in f"{settings!r} {settings} {settings.model_dump_json()}"


@pytest.mark.parametrize(
    "url", ["127.0.0.1:8000/v1", "ftp://host/v1", "http://", "http://host:port/v1", "", "http://[::1"]
)
def test_an_address_of_the_judge_that_is_none_is_said_with_how_one_looks(url: str) -> None:
    with pytest.raises(ValidationError, match="must be http:// or https:// with a host"):
        JudgeSettings.model_validate({"base_url": url})
