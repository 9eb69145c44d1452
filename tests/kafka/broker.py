"""An Apache Kafka of our own for the tests: one process, KRaft, from the jars that Maven resolves; or somebody's broker.

TRIMTAB_TEST_KAFKA=host:port names a running broker to use instead.
"""

from __future__ import annotations

import base64
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
POM = Path(__file__).with_name("pom.xml")
VERSION = "4.1.0"
READY_WITHIN_S = 60.0

PROPERTIES = """
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:{controller}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={folder}/data
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
"""


SECURED = """
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller},SASL_SSL://127.0.0.1:{secured}
advertised.listeners=PLAINTEXT://127.0.0.1:{port},SASL_SSL://127.0.0.1:{secured}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_SSL:SASL_SSL
inter.broker.listener.name=PLAINTEXT
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512
listener.name.sasl_ssl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_{user}="{password}";
listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
ssl.keystore.type=PKCS12
ssl.keystore.location={folder}/server.p12
ssl.keystore.password={password}
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
"""
"""Added for a broker that also listens with TLS, for users who are let in by any mechanism and may do what ACLs say."""
USER, PASSWORD = "bot", "a long password"


class Broker:
    """One broker; it may be stopped, killed, frozen and started again, with its data."""

    def __init__(self, folder: Path, *, secured: bool = False) -> None:
        self.folder = folder
        self.port, controller = free_port(), free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self._properties = folder / "server.properties"
        self.secured_port = free_port() if secured else None
        words = {"port": self.port, "controller": controller, "folder": folder, "secured": self.secured_port}
        text = PROPERTIES.format(**words)
        users: list[str] = []
        if secured:
            _make_certificate(folder)
            text += SECURED.format(**words, user=USER, password=PASSWORD)
            for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512"):
                users += ["--add-scram", f"{mechanism}=[name={USER},password={PASSWORD}]"]
        self._properties.write_text(text)
        cluster = base64.urlsafe_b64encode(b"\0" + secrets.token_bytes(15)).decode().rstrip("=")  # no leading dash
        command = ["format", "--standalone", "-t", cluster, "-c", str(self._properties), *users]
        subprocess.run(java("256m", "kafka.tools.StorageTool", *command), check=True, capture_output=True, timeout=120)

    @property
    def servers(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it and wait until it listens."""
        ports = filter(None, (self.port, self.secured_port))
        self.process = launched(java("512m", "kafka.Kafka", str(self._properties)), self.folder / "server.log", *ports)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End it; SIGKILL is a crash."""
        assert self.process is not None
        self.process.send_signal(how)
        self.process.wait(60)


@contextmanager
def broker(folder: Path, *, secured: bool = False) -> Iterator[Broker]:
    """A running broker. Without Java the test is skipped, in CI it fails."""
    jars()
    made = Broker(folder, secured=secured)
    made.start()
    try:
        yield made
    finally:
        if made.process is not None and made.process.poll() is None:
            made.process.send_signal(signal.SIGCONT)
            made.stop(signal.SIGKILL)


def jars(version: str = VERSION) -> Path:
    """Where the jars of this version of Kafka are, fetched if need be. Without Java the test is skipped, in CI it fails."""
    _need("java", "a JRE, 17 or later")
    folder = ROOT / ".make" / f"kafka-{version}"
    if not folder.exists():
        _need("mvn", "Maven, for Kafka's jars")
        fresh = folder.with_name(f"{folder.name}.{os.getpid()}")
        goal = ["dependency:copy-dependencies", f"-DoutputDirectory={fresh}", "-DincludeScope=runtime"]
        command = ["mvn", "-q", "-B", "-f", str(POM), f"-Dkafka.version={version}", *goal]
        subprocess.run(command, check=True, capture_output=True, timeout=300)
        try:
            fresh.rename(folder)
        except OSError:  # another process was first
            shutil.rmtree(fresh)
    return folder


def launched(command: list[str], told: Path, *ports: int) -> subprocess.Popen[bytes]:
    """Start a server that writes to `told`, and wait until it listens on all ports."""
    with told.open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=told.parent, start_new_session=True)
    deadline = time.monotonic() + READY_WITHIN_S
    while not all(map(_listens, ports)):
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            pytest.fail(f"it ended or does not listen, see {told}")
        time.sleep(0.1)
    return process


def _listens(port: int) -> bool:
    """Whether somebody takes connections there."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def _make_certificate(folder: Path) -> None:
    """A key and a certificate of its own authority for 127.0.0.1, and that authority for clients: server.p12, ca.pem."""
    store = ["-keystore", str(folder / "server.p12"), "-storepass", PASSWORD, "-alias", "server"]
    make = ["-genkeypair", "-keyalg", "RSA", "-dname", "CN=broker", "-ext", "san=ip:127.0.0.1", "-validity", "2"]
    for arguments in ([*make, "-storetype", "PKCS12"], ["-exportcert", "-rfc", "-file", str(folder / "ca.pem")]):
        subprocess.run(["keytool", *arguments, *store], check=True, capture_output=True, timeout=60)


def java(memory: str, *arguments: str, jars: Path = ROOT / ".make" / f"kafka-{VERSION}") -> list[str]:
    """The command that runs a class of Kafka's."""
    quick = ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]  # it lives for a minute: no second compiler
    return ["java", f"-Xmx{memory}", *quick, "-cp", f"{jars}/*", *arguments]


def _need(program: str, what: str) -> None:
    if shutil.which(program) is None:
        reason = f"{program} is not installed: it takes {what}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
