"""The dashboard: every query has data on a real Prometheus, and the document is what Grafana 11 takes."""

from __future__ import annotations

from itertools import combinations, pairwise
from typing import Any

import pytest

from tests.dashboards.conftest import Server, wait_for
from tests.dashboards.documents import Query, dashboard_queries, metrics_in, overview, panels
from tests.dashboards.names import exposed_names

BUILT_IN = {"stat", "timeseries", "bargauge", "table", "gauge"}
QUERIES = list(dashboard_queries())


@pytest.mark.slow
@pytest.mark.xdist_group("prometheus")
@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.where)
def test_every_query_has_data(prometheus: Server, query: Query) -> None:
    wait_for(lambda: bool(prometheus.query(query.expr)), f"data for {query.where}: {query.expr}")


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.where)
def test_every_query_names_metrics_that_exist(query: Query) -> None:
    assert metrics_in(query.expr) <= exposed_names(), query.expr


def test_no_variable_of_grafana_is_left_in_a_query() -> None:
    assert [query for query in QUERIES if "$" in query.expr] == []


def test_every_metric_that_people_look_at_is_on_the_dashboard() -> None:
    shown = set().union(*(metrics_in(query.expr) for query in QUERIES))
    families = {name.removesuffix("_bucket").removesuffix("_count") for name in shown}
    hidden = {n.removesuffix("_bucket") for n in exposed_names() if not n.endswith(("_sum", "_count"))} - families
    assert hidden == set()


def test_there_is_a_row_for_each_question() -> None:
    rows = [panel["title"] for panel in overview()["panels"] if panel["type"] == "row"]
    assert rows == ["Is it healthy?", "Feedback in", "Judge", "Learning", "Serving", "Rollout", "Shadow", "Comparisons"]


@pytest.mark.parametrize("panel", panels(), ids=lambda panel: panel["title"])
def test_a_panel_says_what_it_shows_in_which_unit_from_the_chosen_data_source(panel: dict[str, Any]) -> None:
    assert panel["type"] in BUILT_IN
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["targets"]
    for part in (panel, *panel["targets"]):
        assert part["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])


def test_the_data_source_is_a_variable() -> None:
    (variable,) = overview()["templating"]["list"]
    assert (variable["name"], variable["type"], variable["query"]) == ("datasource", "datasource", "prometheus")


def test_panels_have_their_own_numbers_and_do_not_overlap() -> None:
    document = overview()
    assert document["schemaVersion"] >= 39  # Grafana 11
    assert document["uid"]
    ids = [panel["id"] for panel in document["panels"]]
    assert len(ids) == len(set(ids))
    for panel in document["panels"]:
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24
    for one, other in combinations(document["panels"], 2):
        assert not _overlap(one["gridPos"], other["gridPos"]), (one["title"], other["title"])


def test_rows_stand_above_their_panels() -> None:
    tops = [panel["gridPos"]["y"] for panel in overview()["panels"]]
    assert all(above <= below for above, below in pairwise(tops))


def _overlap(one: dict[str, int], other: dict[str, int]) -> bool:
    beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
    apart = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
    return not (beside or apart)
