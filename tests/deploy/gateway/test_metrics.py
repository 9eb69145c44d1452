"""The gateway's metrics."""

from __future__ import annotations

from deploy.gateway import metrics


def test_a_metric_is_the_librarys_own() -> None:
    assert metrics.chat_requests(418, "none") is metrics.CHAT_REQUESTS.labels(code="418", arm="none")
    assert metrics.chat_seconds("incumbent") is metrics.CHAT_SECONDS.labels(arm="incumbent")
