"""The alert rules: each fires and keeps still when it should, names what exists, and tells the on-call person what to type."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from deploy.cli import trimtab
from tests.dashboards.conftest import Server, wait_for
from tests.dashboards.documents import ALERTS, ALERTS_TESTS, ROOT, Query, alert_cases, alert_queries, alerts, metrics_in
from tests.dashboards.names import exposed_names, labels_of

PAGE = ROOT / "docs" / "operations" / "alerts.md"
OF_PROMETHEUS = {"job", "instance", "role"}
"""Labels that the scrape configuration gives to each sample."""


def run_tests(promtool: str, folder: Path, rules: dict[str, Any], cases: list[dict[str, Any]]) -> tuple[bool, str]:
    """Whether these cases hold for these rules, and what promtool says."""
    (folder / "alerts.yaml").write_text(yaml.safe_dump(rules, allow_unicode=True))
    tests = {"rule_files": ["alerts.yaml"], "evaluation_interval": "1m", "tests": cases}
    (folder / "alerts_test.yaml").write_text(yaml.safe_dump(tests, allow_unicode=True))
    done = subprocess.run(
        [promtool, "test", "rules", "alerts_test.yaml"], cwd=folder, capture_output=True, text=True, timeout=60
    )
    return done.returncode == 0, done.stdout + done.stderr


def cases_of(alert: str) -> list[dict[str, Any]]:
    return [case for case in alert_cases() if case["alert_rule_test"][0]["alertname"] == alert]


def one_rule(alert: str, **changes: Any) -> dict[str, Any]:
    return {"groups": [{"name": "one", "rules": [alerts()[alert] | changes]}]}


@pytest.mark.slow
def test_all_cases_hold_as_promtool_runs_them(promtool: str) -> None:
    for command in (["check", "rules", str(ALERTS)], ["test", "rules", *map(str, ALERTS_TESTS)]):
        done = subprocess.run([promtool, *command], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("alert", alerts())
def test_an_alert_that_always_or_never_fires_would_be_noticed(promtool: str, tmp_path: Path, alert: str) -> None:
    for expr in ("vector(1)", "vector(0) > 0"):
        rule = one_rule(alert, expr=expr, **{"for": "0s"})
        held, said = run_tests(promtool, tmp_path, rule, cases_of(alert))
        assert not held, expr
        assert "exp:" in said, said  # it is the alerts that differ, not the file that is no good


@pytest.mark.parametrize("alert", alerts())
def test_each_alert_has_a_case_that_fires_and_one_that_does_not(alert: str) -> None:
    expected = [bool(case["alert_rule_test"][0]["exp_alerts"]) for case in cases_of(alert)]
    assert set(expected) == {True, False}


@pytest.mark.parametrize("query", list(alert_queries()), ids=lambda query: query.where)
def test_every_rule_names_metrics_that_exist(query: Query) -> None:
    assert metrics_in(query.expr) <= exposed_names()


def test_the_cases_use_the_labels_that_the_metrics_have() -> None:
    for case in alert_cases():
        for series in (one["series"] for one in case["input_series"]):
            name, _, labels = series.partition("{")
            known = labels_of()[name] if name != "up" else frozenset()
            assert set(re.findall(r"(\w+)=", labels)) - (OF_PROMETHEUS - known) == known, series


@pytest.mark.slow
@pytest.mark.xdist_group("prometheus")
@pytest.mark.parametrize("query", list(alert_queries()), ids=lambda query: query.where)
def test_prometheus_takes_every_expression(prometheus: Server, query: Query) -> None:
    prometheus.query(query.expr)


@pytest.mark.slow
@pytest.mark.xdist_group("prometheus")
def test_prometheus_evaluates_our_rules_and_fires(prometheus: Server) -> None:
    def firing() -> set[str]:
        return {alert["labels"]["alertname"] for alert in prometheus.get("alerts")["alerts"] if alert["state"] == "firing"}  # fmt: skip

    wait_for(lambda: {"TrimtabTurnsLost", "TrimtabTrainingFailed", "TrimtabRolledBack"} <= firing(), "alerts that fire")
    assert "TrimtabHalted" not in firing()
    rules = [rule for group in prometheus.get("rules")["groups"] for rule in group["rules"]]
    assert {rule["name"] for rule in rules} == set(alerts())
    assert [rule["lastError"] for rule in rules if rule["health"] != "ok"] == []


@pytest.mark.parametrize("alert", alerts())
def test_an_alert_says_what_to_look_at_and_what_to_type(alert: str) -> None:
    rule = alerts()[alert]
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert rule["annotations"]["summary"]
    assert commands(rule["annotations"]["description"])


@pytest.mark.parametrize("alert", alerts())
def test_the_runbook_has_a_section_for_the_alert(alert: str) -> None:
    sections = page_sections()
    assert alerts()[alert]["annotations"]["runbook"] == f"docs/operations/alerts.md#{alert.lower()}"
    for part in ("**Means.**", "**Look at.**", "**Type.**"):
        assert part in sections[alert]
    assert f"Severity: {alerts()[alert]['labels']['severity']}" in sections[alert]


def test_the_runbook_speaks_of_no_alert_that_is_gone() -> None:
    assert list(page_sections()) == list(alerts())


def test_every_command_in_rules_and_runbook_exists() -> None:
    texts = [PAGE.read_text(), *(rule["annotations"]["description"] for rule in alerts().values())]
    for command in {command for text in texts for command in commands(text)}:
        assert_exists(command)


def commands(text: str) -> list[str]:
    """What stands in backticks or code blocks and begins with `trimtab`."""
    inline = re.findall(r"`(trimtab [^`]+)`", text)
    return inline + [line for line in text.splitlines() if line.startswith("trimtab ")]


def assert_exists(command: str) -> None:
    """The command, its subcommand and its options are those of the command line."""
    words = command.split("#")[0].split()[1:]
    found: click.Command = trimtab
    context = click.Context(found)
    while words and isinstance(found, click.Group):
        inner = found.get_command(context, words.pop(0))
        assert inner is not None, command
        found = inner
    options = {option for parameter in found.params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= options, command


def page_sections() -> dict[str, str]:
    """The page's sections that are about an alert, in order."""
    parts = re.split(r"^## (Trimtab\w+)\n", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))
