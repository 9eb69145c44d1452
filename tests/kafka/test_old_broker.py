"""A broker from before topics had ids."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.commands import trimtab
from tests.kafka.broker import free_port, jars, java, launched

pytestmark = pytest.mark.kafka

VERSION = "2.7.2"


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[str]:
    """Kafka of that time, and the ZooKeeper that it needs."""
    zookeeper, kafka = free_port(), free_port()
    (tmp_path / "zookeeper.properties").write_text(
        f"dataDir={tmp_path}/zookeeper\nclientPort={zookeeper}\nadmin.enableServer=false\n"
    )
    (tmp_path / "kafka.properties").write_text(
        f"broker.id=1\nlisteners=PLAINTEXT://127.0.0.1:{kafka}\nzookeeper.connect=127.0.0.1:{zookeeper}\n"
        f"log.dirs={tmp_path}/data\noffsets.topic.replication.factor=1\n"
    )
    found, processes = jars(VERSION), list[subprocess.Popen[bytes]]()
    try:
        for name, main, port in (
            ("zookeeper", "org.apache.zookeeper.server.quorum.QuorumPeerMain", zookeeper),
            ("kafka", "kafka.Kafka", kafka),
        ):
            command = java("256m", main, str(tmp_path / f"{name}.properties"), jars=found)
            processes.append(launched(command, tmp_path / f"{name}.log", port))
        yield f"127.0.0.1:{kafka}"
    finally:
        for process in reversed(processes):
            process.kill()
            process.wait()


def test_a_broker_that_is_too_old_is_one_sentence(servers: str, tmp_path: Path) -> None:
    for command in (("topics", "create"), ("worker", "--admin-port", "0")):
        done = trimtab(*command, cwd=tmp_path, TRIMTAB_BROKER__URL=f"kafka://{servers}")
        assert done.returncode == 1
        assert "is too old" in done.stderr
        assert "it takes version" in done.stderr
        assert "Traceback" not in done.stderr
