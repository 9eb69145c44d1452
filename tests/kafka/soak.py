"""Kafka's own kind of system test: a driver with known ids, a killer, and a verifier that reads with other libraries.

    python -m tests.kafka.soak --turns 200000 --kills 50

Real `trimtab worker` processes and a real `trimtab gateway` with people who chat, on a real broker. A kill waits until
something was done since the last one.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from deltalake import DeltaTable
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient, NewTopic
from rich.console import Console
from rich.progress import Progress

from deploy.gateway.turn_ids import PREFIX
from tests.deploy.commands import answer, environment
from tests.kafka.broker import Broker, broker
from tests.kafka.chats import Chats, GatewayProcess

PARTITIONS = 8
TOPICS = {"turns.served": "turns", "ratings.given": "ratings"}
EPOCH_S = 1_767_268_800
STEP = 200
"""Records after which the driver looks at the clock."""
BROKER_SHARE, GATEWAY_SHARE = 0.05, 0.1
CHAT_PAUSE_S = 0.2
STOPPED_S = (1.0, 9.0)
"""A frozen worker sleeps on either side of its session timeout."""
DRAINED_WITHIN_S = 600.0


@dataclass(frozen=True)
class Cluster:
    """Where the topics are, what their names begin with, and the broker itself where it may be killed too."""

    servers: str
    prefix: str
    broker: Broker | None = None

    @property
    def settings(self) -> dict[str, str]:
        """As environment variables of `trimtab`."""
        section = {"URL": f"kafka://{self.servers}", "PREFIX": self.prefix, "PARTITIONS": str(PARTITIONS)}
        return {f"TRIMTAB_BROKER__{name}": value for name, value in section.items()}


@dataclass
class Counts:
    """What a run ended with."""

    turns: int
    ratings: int
    killed: Counter[str] = field(default_factory=Counter)
    on_topics: int = 0
    facts: int = 0
    missing: int = 0
    doubled: int = 0
    chats: int = 0
    """Turns that the gateway told to the end."""
    chats_missing: int = 0
    """Of those, how many are not among the facts as they were told."""
    chats_cut_off: int = 0
    same_dataset: bool = False
    """Whether the dataset's hash is that of an undisturbed replay through the embedded log."""
    seconds: float = 0.0

    def good(self) -> bool:
        """Nothing lost, nothing doubled, nothing changed."""
        every = self.turns + self.ratings
        whole = self.on_topics == self.facts >= every + self.chats
        return self.same_dataset and whole and (self.missing, self.doubled, self.chats_missing) == (0, 0, 0)


def turn(number: int) -> dict[str, object]:
    """A foreign event: not signed, so that ingest has all its work."""
    return {
        "event": "turn", "event_id": f"e{number}", "conversation_id": f"c{number // 3}", "turn_id": f"t{number}",
        "occurred_at": EPOCH_S + number, "user_id": f"u{number % 997}", "policy": "p", "locale": "en",
        "messages": [{"role": "user", "content": f"Where is order {number % 5_000}? My mail is u{number % 50}@example.com"}],
        "reply": f"It is on its way, number {number}.",
    }  # fmt: skip


def rating(number: int) -> dict[str, object]:
    """A thumb for every fourth turn."""
    return {
        "event": "rating", "event_id": f"r{number}", "conversation_id": f"c{number // 3}", "turn_id": f"t{number}",
        "occurred_at": EPOCH_S + number + 30, "kind": "thumbs", "source": "user", "value": number % 3 != 0, "user_id": f"u{number % 997}",
    }  # fmt: skip


def events(turns: int) -> list[tuple[str, dict[str, object]]]:
    """All events in the order in which they are sent."""
    found: list[tuple[str, dict[str, object]]] = []
    for number in range(turns):
        found.append(("turns.served", turn(number)))
        if number % 4 == 0:
            found.append(("ratings.given", rating(number)))
    return found


def drive(cluster: Cluster, counts: Counts, kills: int, per_s: float, told: Progress) -> None:
    """Produce everything, at most at this speed, and never so far that too little would be left for the kills to come."""
    turns, total = counts.turns, counts.turns + counts.ratings
    producer = KafkaProducer(bootstrap_servers=cluster.servers, linger_ms=20)
    task, started = told.add_task("produced", total=turns), time.monotonic()
    for number, (topic, event) in enumerate(events(turns)):
        producer.send(
            cluster.prefix + topic, key=str(event["conversation_id"]).encode(), value=json.dumps(event).encode()
        )
        if number % STEP == 0:
            told.update(task, completed=number * turns / total)
            time.sleep(max(0.0, started + number / per_s - time.monotonic()))
            while number * (kills + 1) > total * (counts.killed.total() + 1):
                time.sleep(0.1)
    producer.flush(120)
    told.update(task, completed=turns)
    producer.close()


class Workers:
    """`trimtab worker` processes; a dead one is started again at once."""

    def __init__(self, count: int, folder: Path, cluster: Cluster) -> None:
        self._folder, self._cluster = folder, cluster
        self.processes = [self._start() for _ in range(count)]

    def _start(self) -> subprocess.Popen[bytes]:
        with (self._folder / "workers.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-P", "-m", "deploy.cli", "worker", "--admin-port", "0", "--state", "state"],
                cwd=self._folder,
                env=environment(**self._cluster.settings),
                stdout=log,
                stderr=log,
            )

    def look_after(self) -> None:
        """Start the dead again."""
        self.processes = [self._start() if process.poll() is not None else process for process in self.processes]

    def stop(self) -> None:
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.wait(60)


def done(admin: KafkaAdminClient, prefix: str) -> int:
    """Records that the group has committed."""
    try:
        group = f"{prefix}trimtab-ingest"
        found = admin.list_group_offsets({group: None})[group]
    except Exception:  # the coordinator is being made
        return 0
    return sum(at.offset for place, at in found.items() if place.topic.removeprefix(prefix) in TOPICS)


def verify(cluster: Cluster, facts: Path, counts: Counts) -> None:
    """Every record of the topics is one fact, by topic, partition and offset; read without our own code."""
    consumer = KafkaConsumer(bootstrap_servers=cluster.servers, enable_auto_commit=False, consumer_timeout_ms=5_000)
    for topic, table in TOPICS.items():
        places = [TopicPartition(cluster.prefix + topic, number) for number in range(PARTITIONS)]
        consumer.assign(places)
        consumer.seek_to_beginning(*places)
        left, sent = sum(consumer.end_offsets(places).values()), Counter[tuple[int, int, str]]()
        while left:
            for records in consumer.poll(timeout_ms=1_000).values():
                left -= len(records)
                sent.update((r.partition, r.offset, json.loads(r.value)["event_id"]) for r in records)
        rows = DeltaTable(facts / table).to_pyarrow_table(columns=["partition", "offset", "event_id"]).to_pylist()
        kept = Counter((row["partition"], row["offset"], row["event_id"]) for row in rows)
        counts.on_topics += sent.total()
        counts.facts += kept.total()
        counts.missing += (sent - kept).total()
        counts.doubled += (kept - sent).total()
    consumer.close()


def same_dataset(folder: Path, cluster: Cluster, turns: int) -> bool:
    """Compare with the embedded log; replaying all of it again on the cluster must add nothing. What people chatted has no
    recording: it is left out."""
    DeltaTable(folder / "state" / "facts" / "turns").delete(f"turn_id like '{PREFIX}%'")
    recorded = folder / "events.jsonl"
    recorded.write_text("".join(json.dumps(event) + "\n" for _, event in events(turns)))
    undisturbed = answer("replay", "--no-train", recorded, "--state", "embedded", cwd=folder)
    again = answer("replay", "--no-train", recorded, "--state", "state", cwd=folder, **cluster.settings)
    return bool(again["turns"] == 0 and again["dataset_hash"] == undisturbed["dataset_hash"])


def soak(turns: int, kills: int, seed: int, workers: int, per_s: float, folder: Path, cluster: Cluster) -> Counts:
    """Run it all; the state directory is `folder`/state."""
    counts, chance, started = Counts(turns, len(events(turns)) - turns), random.Random(seed), time.monotonic()
    admin = KafkaAdminClient(bootstrap_servers=cluster.servers)
    room = {"max.message.bytes": "2000000"}
    topics = [NewTopic(cluster.prefix + topic, PARTITIONS, 1, topic_configs=room) for topic in TOPICS]
    admin.create_topics(topics, wait_for_metadata=True)
    total, last = counts.turns + counts.ratings, 0
    running = Workers(workers, folder, cluster)
    gateway = GatewayProcess(folder, **cluster.settings)
    gateway.wait_ready()
    chats = Chats(gateway.url, people=2, pause_s=CHAT_PAUSE_S)
    with Progress(console=Console(stderr=True)) as told:
        driver = threading.Thread(target=drive, args=(cluster, counts, kills, per_s, told), daemon=True)
        driver.start()
        task = told.add_task("done", total=total)
        deadline = time.monotonic() + DRAINED_WITHIN_S
        while (now := done(admin, cluster.prefix)) < total or driver.is_alive():  # what people chat counts as done too
            told.update(task, completed=now)
            if now > last:
                deadline = time.monotonic() + DRAINED_WITHIN_S
                if counts.killed.total() < kills:
                    _strike(chance, running, gateway, cluster.broker, counts)
                last = now
            assert time.monotonic() < deadline, f"nothing was done for {DRAINED_WITHIN_S:.0f} s"
            running.look_after()
            if gateway.process.poll() is not None:
                gateway.start()
            time.sleep(chance.uniform(0.2, 1.0))
        driver.join()
    gateway.wait_ready()
    chats.stop()
    gateway.stop()
    _drain(admin, cluster, folder, running)
    running.stop()
    verify_chats(chats, folder / "state" / "facts", counts)
    verify(cluster, folder / "state" / "facts", counts)
    admin.close()
    counts.seconds = time.monotonic() - started
    counts.same_dataset = same_dataset(folder, cluster, turns)
    return counts


def verify_chats(chats: Chats, facts: Path, counts: Counts) -> None:
    """Every turn whose last chunk came is a fact, with the outcome ok."""
    rows = DeltaTable(facts / "turns").to_pyarrow_table(columns=["turn_id", "record"]).to_pylist()
    known = {row["turn_id"] for row in rows if json.loads(row["record"]).get("outcome", "ok") == "ok"}
    counts.chats, counts.chats_missing = len(chats.complete), len(chats.complete - known)
    counts.chats_cut_off = len(chats.begun - chats.complete)


def _drain(admin: KafkaAdminClient, cluster: Cluster, folder: Path, workers: Workers) -> None:
    """Until the group has done everything that is on the topics."""
    consumer = KafkaConsumer(bootstrap_servers=cluster.servers)
    places = [TopicPartition(cluster.prefix + topic, number) for topic in TOPICS for number in range(PARTITIONS)]
    deadline = time.monotonic() + DRAINED_WITHIN_S
    while done(admin, cluster.prefix) < sum(consumer.end_offsets(places).values()):
        assert time.monotonic() < deadline, f"the workers do not finish, see {folder / 'workers.log'}"
        workers.look_after()
        time.sleep(0.2)
    consumer.close()


def _strike(
    chance: random.Random, workers: Workers, gateway: GatewayProcess, broker: Broker | None, counts: Counts
) -> None:
    """Kill or freeze a worker, or the gateway, or the broker."""
    if broker is not None and chance.random() < BROKER_SHARE:
        counts.killed["SIGKILL broker"] += 1
        broker.stop(signal.SIGKILL)
        time.sleep(chance.uniform(0, 3))
        broker.start()
        return
    if chance.random() < GATEWAY_SHARE:
        counts.killed["SIGKILL gateway"] += 1
        gateway.kill()
        gateway.start()
        return
    victim = chance.choice(workers.processes)
    if chance.random() < 0.75:
        os.kill(victim.pid, signal.SIGKILL)
        counts.killed["SIGKILL worker"] += 1
    else:
        os.kill(victim.pid, signal.SIGSTOP)
        threading.Timer(chance.uniform(*STOPPED_S), lambda: victim.send_signal(signal.SIGCONT)).start()
        counts.killed["SIGSTOP worker"] += 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=200_000)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--per-s", type=float, default=1_500.0, help="events produced in a second")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="trimtab-soak-"))
    with broker(folder) as running:
        cluster = Cluster(running.servers, "", running)
        counts = soak(given.turns, given.kills, given.seed, given.workers, given.per_s, folder, cluster)
    print(json.dumps(counts.__dict__))
    if not counts.good():
        print(f"the state directory, the workers' log and the broker's files are in {folder}", file=sys.stderr)
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
