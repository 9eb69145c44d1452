"""What the metrics modules expose, by name."""

from __future__ import annotations

from functools import cache

from prometheus_client.metrics import MetricWrapperBase

from deploy.decisions import figures
from deploy.engine import metrics as engine
from deploy.gateway import metrics as serving
from deploy.roles import metrics as roles
from streams import metrics as streams


@cache
def collectors() -> tuple[MetricWrapperBase, ...]:
    """Every metric of these modules."""
    found = {
        id(value): value
        for module in (streams, serving, engine, figures, roles)
        for value in vars(module).values()
        if isinstance(value, MetricWrapperBase)
    }
    return tuple(found.values())


@cache
def exposed_names() -> frozenset[str]:
    """The names of all samples, as Prometheus stores them."""
    return frozenset(labels_of())


@cache
def labels_of() -> dict[str, frozenset[str]]:
    """The labels of each sample."""
    names: dict[str, frozenset[str]] = {}
    for collector in collectors():
        (family,) = collector.describe()
        suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}.get(family.type, [""])
        for suffix in suffixes:
            extra = {"le"} if suffix == "_bucket" else set()
            names[family.name + suffix] = frozenset({*collector._labelnames, *extra})
    return names
