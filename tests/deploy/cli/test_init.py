"""The configuration to begin with: every key is there, and takes its default where its # is taken away."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from deploy.cli.init import template
from deploy.settings import Settings
from tests.deploy.cli.typed import typed


def test_it_is_right_as_it_is_and_is_not_written_over(tmp_path: Path) -> None:
    file = tmp_path / "trimtab.toml"
    assert typed("init", str(file)).code == 0
    assert file.read_text() == template()
    assert typed("config", "check", "--config", str(file)).code == 0
    file.write_text("[train]\n")
    told = typed("init", str(file))
    assert (told.code, "--force" in told.error, file.read_text()) == (1, True, "[train]\n")
    assert typed("init", str(file), "--force").code == 0
    assert file.read_text() == template()


def test_every_key_with_a_default_takes_it_once_its_mark_is_taken_away() -> None:
    text = re.sub(r"^# (\w+ = .+)$", r"\1", template(), flags=re.M)
    found = tomllib.loads(text)
    assert set(found) == set(Settings.model_fields)
    assert Settings.model_validate(found) == Settings.model_validate({})
    for section, field in Settings.model_fields.items():
        for key in field.annotation.model_fields:  # type: ignore[union-attr]
            assert re.search(rf"^# {key}( =|:)", template(), re.M), f"{section}.{key}"


def test_no_secret_is_asked_for_in_a_file() -> None:
    assert "# url: from the environment only, TRIMTAB_CONTROL__URL" in template()
    assert not re.search(r"(password|key) = ", template())


def test_where_it_can_not_be_written_is_said(tmp_path: Path) -> None:
    told = typed("init", str(tmp_path / "none" / "trimtab.toml"))
    assert (told.code, "No such file or directory" in told.error) == (1, True)
