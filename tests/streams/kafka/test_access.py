"""How a cluster is reached; and a broker that speaks TLS, knows users and asks what they may do."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from kafka.admin import (
    ACL,
    ACLOperation,
    ACLPermissionType,
    ACLResourcePatternType,
    KafkaAdminClient,
    ResourcePattern,
    ResourceType,
)
from kafka.errors import (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    KafkaError,
    KafkaTimeoutError,
    TopicAuthorizationFailedError,
    UnsupportedVersionError,
)

from feedback.facts.reader import Facts
from feedback.topics import TOPICS
from streams import dead_letters
from streams.kafka.access import KafkaAccess, Mechanism
from streams.kafka.log import KafkaLog
from streams.log import LogError
from tests.deploy.commands import trimtab, typed_in
from tests.fakes import CLOCK
from tests.kafka.broker import PASSWORD, USER, Broker, broker
from tests.streams.test_worker import drain, signed, turn, unsigned

RIGHTS = {
    ResourceType.TOPIC: ("READ", "WRITE", "CREATE", "DESCRIBE", "DESCRIBE_CONFIGS"),
    ResourceType.GROUP: ("READ", "DESCRIBE"),
}


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with broker(tmp_path_factory.mktemp("secured"), secured=True) as running:
        yield running


@pytest.fixture
def access(secured: Broker) -> KafkaAccess:
    servers, ca_file = f"127.0.0.1:{secured.secured_port}", secured.folder / "ca.pem"
    return KafkaAccess(servers, "sasl+tls", "SCRAM-SHA-512", USER, PASSWORD, ca_file)


def allow(secured: Broker, prefix: str, kinds: Any = tuple(RIGHTS)) -> None:
    """Give the user the rights that the docs list, on names with this prefix."""
    admin = KafkaAdminClient(bootstrap_servers=secured.servers)
    admin.create_acls(
        [
            ACL(f"User:{USER}", "*", ACLOperation[right], ACLPermissionType.ALLOW,
                ResourcePattern(kind, prefix, ACLResourcePatternType.PREFIXED))
            for kind in kinds
            for right in RIGHTS[kind]
        ]
    )  # fmt: skip
    admin.close()


@pytest.mark.kafka
@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
async def test_the_topology_runs_with_tls_and_a_user_who_may_no_more_than_the_docs_say(
    tmp_path: Path, secured: Broker, access: KafkaAccess, mechanism: Mechanism, prefix: str
) -> None:
    allow(secured, prefix)
    log = KafkaLog(replace(access, mechanism=mechanism), CLOCK, partitions=2, prefix=prefix)
    for topic in TOPICS:
        log.create_topic(topic)
    await drain(tmp_path, log, [signed(turn(n)) for n in range(20)] + [unsigned({**turn(99), "reply": 5})])
    assert len(list(Facts(tmp_path / "facts").turns())) == 20
    assert len(list(dead_letters.read(log))) == 1
    log.close()


def refusal(access: KafkaAccess, prefix: str = "") -> str:
    """The sentence in which it ends."""

    def use() -> None:
        log = KafkaLog(access, CLOCK, partitions=1, prefix=prefix)
        log.create_topic("a")
        log.committed("group")

    with pytest.raises(LogError) as raised:
        use()
    assert PASSWORD not in str(raised.value)
    assert "\n" not in str(raised.value)
    return str(raised.value)


REFUSALS: list[tuple[dict[str, Any], str]] = [
    ({"password": "wrong"}, "does not let 'bot' in by SCRAM-SHA-512: check broker.username"),
    ({"username": "eve"}, "does not let 'eve' in"),
    ({"ca_file": None}, "is not trusted .*name its authority in broker.ca_file"),
    ({"security": "plaintext", "username": None, "password": None, "ca_file": None}, "speaks TLS: set broker.sec"),
    ({"security": "tls", "username": None, "password": None}, "perhaps it wants a user"),
    ({"servers": "127.0.0.1:9"}, "nobody answers at 127.0.0.1:9"),
    ({"servers": "no-such-host.invalid:9092"}, "nobody answers at no-such-host"),
]


@pytest.mark.kafka
def test_a_cluster_that_lets_us_not_in_is_one_sentence_that_says_what_to_do(
    secured: Broker, access: KafkaAccess
) -> None:
    plain = [({"servers": secured.servers}, "does not speak TLS")]
    cases = [(replace(access, **change), said) for change, said in REFUSALS + plain]
    with ThreadPoolExecutor(len(cases)) as pool:  # each waits for its cluster for five seconds
        sentences = list(pool.map(refusal, (changed for changed, _ in cases)))
    assert [said for (_, said), sentence in zip(cases, sentences, strict=True) if not re.search(said, sentence)] == []


@pytest.mark.kafka
def test_missing_rights_are_named(secured: Broker, access: KafkaAccess, prefix: str) -> None:
    sentence = refusal(access, prefix)
    assert f"does not allow 'bot' what is done with the topic {prefix}a" in sentence
    allow(secured, prefix, [ResourceType.TOPIC])
    assert "does not allow 'bot' a consumer group of ours" in refusal(access, prefix)


@pytest.mark.kafka
def test_the_command_line_ends_in_that_sentence_and_without_the_password(
    tmp_path: Path, secured: Broker, access: KafkaAccess
) -> None:
    variables = {"URL": f"kafka://{access.servers}", "SECURITY": "sasl+tls", "USERNAME": USER, "PASSWORD": "guess"}
    variables["CA_FILE"] = str(access.ca_file)
    settings = {f"TRIMTAB_BROKER__{name}": value for name, value in variables.items()}
    done = trimtab("worker", cwd=tmp_path, **settings)
    assert done.returncode == 1
    assert done.stderr.startswith("trimtab: Kafka at 127.0.0.1")
    assert "does not let 'bot' in" in done.stderr
    assert "guess" not in done.stderr
    found = typed_in(tmp_path, "config", "check", **settings)
    assert found.code == 0, found.error
    assert "guess" not in found.out + found.error


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"security": "sasl"}, "takes broker.username and a password"),
        ({"security": "sasl+tls", "username": "bot"}, "TRIMTAB_BROKER__PASSWORD"),
        ({"username": "bot"}, "knows no users"),
        ({"ca_file": Path("ca.pem")}, "would not be used"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(LogError, match=said):
        KafkaAccess("127.0.0.1:9", **options)


def test_certificates_that_can_not_be_read_are_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    with pytest.raises(LogError, match=r"ca.pem can't be read as certificates"):
        KafkaAccess("127.0.0.1:9", "tls", ca_file=tmp_path / "ca.pem").client()


def test_the_password_is_not_shown() -> None:
    assert "secret" not in repr(KafkaAccess("127.0.0.1:9", "sasl", username="bot", password="secret"))


def test_the_first_address_is_asked_why_nobody_answers() -> None:
    taken = socket.create_server(("127.0.0.1", 0))
    port = taken.getsockname()[1]
    taken.close()
    sentence = KafkaAccess(f"127.0.0.1:{port},127.0.0.1:9").explained(KafkaTimeoutError())
    assert sentence.startswith(f"nobody answers at 127.0.0.1:{port},127.0.0.1:9 (")
    assert sentence.endswith("is broker.url right, and the broker up?")


@pytest.mark.parametrize("servers", ["localhost", "localhost:", "localhost:kafka", ""])
def test_what_is_no_address_is_asked_about(servers: str) -> None:
    assert "is broker.url right" in KafkaAccess(servers).explained(KafkaTimeoutError())


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (TopicAuthorizationFailedError("x: my.topic"), "does not allow 'bot' what is done with the topic my.topic"),
        (GroupAuthorizationFailedError(), "does not allow 'bot' a consumer group of ours"),
        (ClusterAuthorizationFailedError(), "does not allow 'bot' to make topics or to send without duplicates"),
        (UnsupportedVersionError("no ids"), r"is too old \(.*no ids\): it takes version 2.8 or newer"),
        (KafkaError("odd"), r"can't be used \(KafkaError\): .*odd"),
    ],
)
def test_what_the_cluster_refuses_is_told_without_asking_it_again(error: Exception, said: str) -> None:
    sentence = KafkaAccess("127.0.0.1:9", "sasl", username="bot", password="secret").explained(error)
    assert re.search(said, sentence)
    assert sentence.startswith("Kafka at 127.0.0.1:9 ")
