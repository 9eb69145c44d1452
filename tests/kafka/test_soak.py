"""Two workers, killed and frozen at random: every record of the topics is one fact, and the dataset is the undisturbed one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kafka.soak import Cluster, soak

TURNS, KILLS = 2_000, 3


@pytest.mark.kafka
def test_workers_that_are_killed_and_frozen_lose_nothing_and_double_nothing(
    tmp_path: Path, kafka_servers: str, prefix: str
) -> None:
    cluster = Cluster(kafka_servers, prefix)
    counts = soak(TURNS, kills=KILLS, seed=3, workers=2, per_s=400, folder=tmp_path, cluster=cluster)
    assert counts.killed.total() == KILLS
    assert counts.good(), counts
