"""The files under test, read; and the queries in them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
ALERTS = ROOT / "dashboards" / "alerts.yaml"
ALERTS_TESTS = sorted((ROOT / "dashboards" / "alerts_test").glob("*.yaml"))
OVERVIEW = ROOT / "dashboards" / "overview.json"
PROMETHEUS = ROOT / "deploy" / "stack" / "prometheus.yml"

VARIABLES = {"$__rate_interval": "1m", "$__range": "5m"}
"""What Grafana puts in; a dashboard may use no others."""


@dataclass(frozen=True)
class Query:
    """One PromQL expression, and where it stands."""

    where: str
    expr: str


def read_yaml(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def alerts() -> dict[str, dict[str, Any]]:
    """Every alert rule by its name."""
    return {rule["alert"]: rule for group in read_yaml(ALERTS)["groups"] for rule in group["rules"]}


def alert_cases() -> list[dict[str, Any]]:
    """What promtool is asked of them."""
    return [case for path in ALERTS_TESTS for case in read_yaml(path)["tests"]]


def overview() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(OVERVIEW.read_text(encoding="utf-8"))
    return document


def panels() -> list[dict[str, Any]]:
    """All panels but the rows' headings."""
    return [panel for panel in overview()["panels"] if panel["type"] != "row"]


def dashboard_queries() -> Iterator[Query]:
    """Each query of the dashboard with Grafana's variables put in, its annotations included."""
    for annotation in overview()["annotations"]["list"]:
        yield Query(f"annotation {annotation['name']}", annotation["expr"])
    for panel in panels():
        for target in panel["targets"]:
            expr = target["expr"]
            for variable, value in VARIABLES.items():
                expr = expr.replace(variable, value)
            yield Query(f"{panel['title']} {target['refId']}", expr)


def alert_queries() -> Iterator[Query]:
    for name, rule in alerts().items():
        yield Query(name, rule["expr"])


def metrics_in(expr: str) -> set[str]:
    """The names of Trimtab's metrics in an expression."""
    return set(re.findall(r"\btrimtab_\w+", expr))
