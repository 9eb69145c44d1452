from pathlib import Path
from unittest.mock import patch

import pytest
from pydantic import ValidationError
from structlog.testing import capture_logs

from feedback.settings import JudgeSettings, KeyUnusable, WindowSettings, read_key


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


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    file = tmp_path / "key"
    file.write_text("sk-very-secret\n")
    return file


def test_a_key_file_that_others_may_read_is_closed_to_them_and_read(key_file: Path) -> None:
    key_file.chmod(0o644)
    with capture_logs() as lines:
        assert read_key("judge", None, key_file) == "sk-very-secret"
    assert key_file.stat().st_mode & 0o777 == 0o600
    assert [line["event"] for line in lines] == ["made_private"]
    assert "sk-very-secret" not in str(lines)


def test_one_that_is_not_ours_to_close_is_refused_where_everybody_may_read_it(key_file: Path) -> None:
    key_file.chmod(0o644)
    with (
        patch.object(Path, "chmod", side_effect=PermissionError),
        pytest.raises(KeyUnusable, match="chmod 600") as raised,
    ):
        read_key("judge", None, key_file)
    assert str(key_file) in str(raised.value)
    assert "sk-very-secret" not in str(raised.value)


def test_one_that_root_gave_to_our_group_is_read(key_file: Path) -> None:
    key_file.chmod(0o640)
    with patch.object(Path, "chmod", side_effect=PermissionError):
        assert read_key("judge", None, key_file) == "sk-very-secret"


def test_one_that_a_container_was_given_is_read_whatever_its_mode(key_file: Path) -> None:
    key_file.chmod(0o444)
    with (
        patch.object(Path, "chmod", side_effect=PermissionError),
        patch.object(Path, "is_relative_to", return_value=True),
    ):
        assert read_key("judge", None, key_file) == "sk-very-secret"
