"""How a Kafka cluster is reached: its addresses, TLS, and who we are there. And what its refusals mean, in a sentence."""

from __future__ import annotations

import re
import socket
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from streams.log import LogError

PROBE_S = 3.0
OLDEST = "2.8"
"""The first version that gives topics an id, by which one that was made anew is told from the one before."""

Security = Literal["plaintext", "tls", "sasl", "sasl+tls"]
Mechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]

_PROTOCOLS: dict[Security, str] = {
    "plaintext": "PLAINTEXT",
    "tls": "SSL",
    "sasl": "SASL_PLAINTEXT",
    "sasl+tls": "SASL_SSL",
}


@dataclass(frozen=True)
class KafkaAccess:
    """One cluster at `servers` ("host:port,host:port"). Raises LogError when what is given does not fit together."""

    servers: str
    security: Security = "plaintext"
    mechanism: Mechanism = "SCRAM-SHA-512"
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    ca_file: Path | None = None
    """Certificates that the cluster's must go back to; None: those that the system trusts."""

    def __post_init__(self) -> None:
        if "sasl" in self.security and not (self.username and self.password):
            raise LogError(
                f"broker.security is {self.security}: it takes broker.username and a password in TRIMTAB_BROKER__PASSWORD"
            )
        if "sasl" not in self.security and (self.username or self.password):
            raise LogError(
                f"broker.security is {self.security}, which knows no users: set it to sasl+tls, or take the user away"
            )
        if "tls" not in self.security and self.ca_file is not None:
            raise LogError(
                f"broker.security is {self.security}, so broker.ca_file would not be used: set it to sasl+tls"
            )

    def client(self) -> dict[str, Any]:
        """Keyword arguments of every client, kafka-python's and aiokafka's alike."""
        options: dict[str, Any] = {
            "bootstrap_servers": self.servers.split(","),
            "security_protocol": _PROTOCOLS[self.security],
        }
        if "tls" in self.security:
            try:
                options["ssl_context"] = ssl.create_default_context(cafile=self.ca_file)
            except (OSError, ssl.SSLError) as error:
                raise LogError(f"broker.ca_file {self.ca_file} can't be read as certificates: {error}") from None
        if "sasl" in self.security:
            options["sasl_mechanism"] = self.mechanism
            options["sasl_plain_username"], options["sasl_plain_password"] = self.username, self.password
        return options

    def explained(self, error: BaseException) -> str:
        """What an error of either client means here, and what to do."""
        name, where, who = type(error).__name__, f"Kafka at {self.servers}", repr(self.username or "this client")
        rights = "docs/operations/kafka.md lists the rights that are needed"
        match name:
            case "TopicAuthorizationFailedError":
                return f"{where} does not allow {who} what is done with {_topics(error)}: {rights}"
            case "GroupAuthorizationFailedError":
                return f"{where} does not allow {who} a consumer group of ours: {rights}"
            case "ClusterAuthorizationFailedError":
                return f"{where} does not allow {who} to make topics or to send without duplicates: {rights}"
            case "UnsupportedVersionError" | "IncompatibleBrokerVersion" | "UnrecognizedBrokerVersion":
                return f"{where} is too old ({error}): it takes version {OLDEST} or newer"
        if "Timeout" in name or "NoBrokers" in name or "Authentication" in name or "Connection" in name:
            return self._diagnosed() or f"{where} does not answer in time: {error}"
        return f"{where} can't be used ({name}): {error}"

    def _diagnosed(self) -> str | None:
        """Why a client can't connect, found out by connecting: the clients say no more than that they could not."""
        host, _, port = self.servers.split(",")[0].rpartition(":")
        try:
            with socket.create_connection((host, int(port)), timeout=PROBE_S) as plain:
                if "tls" not in self.security:
                    return (
                        self._user_refused()
                        if self._speaks_tls(plain) is None
                        else (f"Kafka at {self.servers} speaks TLS: set broker.security to tls or sasl+tls")
                    )
                context: ssl.SSLContext = self.client()["ssl_context"]
                with context.wrap_socket(plain, server_hostname=host):
                    return self._user_refused()
        except ssl.SSLCertVerificationError as error:
            return (
                f"the certificate of Kafka at {self.servers} is not trusted ({error.verify_message}): name its authority "
                f"in broker.ca_file"
            )
        except ssl.SSLError:
            return f"Kafka at {self.servers} does not speak TLS: set broker.security to plaintext or sasl"
        except (OSError, ValueError) as error:
            return f"nobody answers at {self.servers} ({error}): is broker.url right, and the broker up?"

    def _speaks_tls(self, connected: socket.socket) -> str | None:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # only to see whether it is TLS at all
        try:
            with context.wrap_socket(connected) as found:
                return found.version()
        except OSError:
            return None

    def _user_refused(self) -> str | None:
        if "sasl" not in self.security:
            return (
                f"Kafka at {self.servers} takes the connection but no request: perhaps it wants a user "
                f"(broker.security is {self.security})"
            )
        return (
            f"Kafka at {self.servers} does not let {self.username!r} in by {self.mechanism}: check broker.username, "
            f"broker.sasl_mechanism and TRIMTAB_BROKER__PASSWORD"
        )


def _topics(error: BaseException) -> str:
    found = re.findall(r"name='([^']+)', num_partitions", str(error)) or [str(error).rsplit(": ", 1)[-1]]
    return f"the topic {found[0]}" if len(found[0]) < 250 else "a topic"
