"""Metrics that every role has: the room on its disk."""

from __future__ import annotations

from prometheus_client import Gauge

DISK_FREE_BYTES = Gauge("trimtab_disk_free_bytes", "Bytes that may still be written where the state directory lies.")
DISK_BYTES = Gauge("trimtab_disk_bytes", "Bytes of the disk where the state directory lies.")
