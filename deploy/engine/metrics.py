"""Metrics of the engine: which adapters are loaded, and which could not be."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

ADAPTER_LOAD_FAILURES = Counter("trimtab_adapter_load_failures_total", "Adapters that could not be loaded when wanted.")
ADAPTER_INFO = Gauge("trimtab_adapter_info", "1 for each adapter that is loaded, with its role.", ["adapter", "role"])
