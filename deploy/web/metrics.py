"""Metrics of both ports: who was turned away before anything of ours was asked. Labels hold no id and no address."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

REFUSED = Counter(
    "trimtab_http_refused_total",
    "Connections and requests that were turned away: `connections` (too many), `header`, `body` (too slow), `invalid`, "
    "`stalled` (takes nothing), `rate`.",
    ["reason"],
)
CONNECTIONS = Gauge("trimtab_http_connections", "Open connections of clients, by port.", ["port"])
ACCEPT_ERRORS = Counter(
    "trimtab_http_accept_errors_total", "Connections that could not be taken, for lack of files say."
)
