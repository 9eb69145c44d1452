"""`trimtab config`, as it is typed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.deploy.cli.test_common import document, typed


def test_what_differs_from_the_defaults_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert document(tmp_path, "config", "check") == {"ok": True, "changed": {}, "warnings": []}
    assert typed(tmp_path, "config", "check")[1].endswith("everything is at its default")
    (tmp_path / "trimtab.toml").write_text('[judge]\nusd_per_day = 7.5\nmodel = "[b]big[/b]"')
    assert document(tmp_path, "config", "check")["changed"] == {"judge.usd_per_day": 7.5, "judge.model": "[b]big[/b]"}
    code, out, _ = typed(tmp_path, "config", "check")
    assert (code, "judge.model = '[b]big[/b]'" in out) == (0, True)


@pytest.mark.parametrize("content", ["[judge\n", "[judge]\nusd_per_dya = 7", '[judge]\nusd_per_day = "much"', "\udcff"])
def test_a_wrong_file_is_one_sentence_that_names_it(tmp_path: Path, content: str) -> None:
    path = tmp_path / "its.toml"
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    code, out, error = typed(tmp_path, "config", "check", "--config", str(path))
    assert (code, out) == (1, "")
    assert error.startswith("trimtab: ")
    assert "its.toml" in error


def test_a_setting_of_the_environment_that_is_half_a_character_is_shown_as_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRIMTAB_JUDGE__MODEL", "\udcff")
    assert document(tmp_path, "config", "check")["changed"] == {"judge.model": "\udcff"}
    assert r"judge.model = '\udcff'" in typed(tmp_path, "config", "check")[1]


@pytest.mark.parametrize(
    ("prices", "missing"),
    [
        ("", "judge.usd_per_million_prompt_tokens and judge.usd_per_million_completion_tokens"),
        ("usd_per_million_prompt_tokens = 0.1", "set judge.usd_per_million_completion_tokens"),
        ("usd_per_million_prompt_tokens = 0.1\nusd_per_million_completion_tokens = 0", None),
        ("free = true", None),
    ],
)
def test_a_judge_without_a_price_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prices: str, missing: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "trimtab.toml").write_text(f'[judge]\nbase_url = "http://127.0.0.1:9/v1"\nmodel = "m"\n{prices}')
    out = typed(tmp_path, "config", "check")[1]
    assert ("the judge is not asked" in out) is (missing is not None)
    assert len(document(tmp_path, "config", "check")["warnings"]) == (missing is not None)
    assert missing is None or missing in out


def test_a_judge_that_is_free_and_has_a_price_is_a_mistake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "trimtab.toml").write_text("[judge]\nfree = true\nusd_per_million_prompt_tokens = 0.1")
    code, _, error = typed(tmp_path, "config", "check")
    assert (code, "judge.free says that it costs nothing" in error) == (1, True)
