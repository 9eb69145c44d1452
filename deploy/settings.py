"""trimtab.toml: every setting, parsed once at the entry point; `TRIMTAB_SECTION__KEY` in the environment overrides it."""

from __future__ import annotations

import difflib
import json
import os
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from deploy.errors import Failed
from deploy.serving_settings import EngineSettings, GatewaySettings, ShadowSettings
from feedback.settings import JudgeSettings, Section, WindowSettings
from models.settings import BaseModelSettings, PolicySettings, RewardSettings, TinySettings
from streams.kafka.access import Mechanism, Security

_SERVER = re.compile(r"([^:\[\]\s]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}")
_HOST_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9])?")


class BrokerSettings(Section):
    """Where events flow: topics in log.db in the state directory, or on a Kafka cluster."""

    url: str = Field(
        "sqlite://",
        pattern=r"^(sqlite://|kafka://[^/\s]+)$",
        description="`kafka://host:port,host:port`, or `sqlite://`: log.db in the state directory.",
    )
    security: Security = Field(
        "plaintext", description="How Kafka is reached; with `sasl` as a user, with `tls` encrypted."
    )
    sasl_mechanism: Mechanism = Field("SCRAM-SHA-512", description="How the user shows who it is, with sasl.")
    username: str | None = Field(None, description="The user, with sasl.")
    password: SecretStr | None = Field(
        None, description="Its password, only from the environment (TRIMTAB_BROKER__PASSWORD)."
    )
    ca_file: Path | None = Field(
        None, description="Certificates that Kafka's must go back to, with tls; default: those that the system trusts."
    )
    partitions: int = Field(4, gt=0, description="Partitions of each topic that is made.")
    replication: int = Field(1, gt=0, description="Copies of each topic that is made, on Kafka.")
    prefix: str = Field(
        "",
        pattern=r"^[\w.-]{0,64}$",
        description="What the names of topics and consumer groups begin with, on Kafka: one cluster, several deployments.",
    )

    @field_validator("url")
    @classmethod
    def _names_ports(cls, url: str) -> str:
        servers = url.removeprefix("kafka://").split(",") if url.startswith("kafka://") else []
        for server in servers:
            if not _SERVER.fullmatch(server) or not 0 < int(server.rpartition(":")[2]) < 65_536:
                raise ValueError(f"{server!r} is no host with a port: write kafka://host:port,host:port")
        return url

    @property
    def on_kafka(self) -> bool:
        return self.url.startswith("kafka://")


class ProcessSettings(Section):
    """How the roles run, each in a process of its own."""

    stop_within_s: float = Field(
        25,
        gt=0,
        description="How long a role that is asked to stop may finish what it has begun: replies under way until shortly before (a quarter of it, four seconds at most), then they end with an error; requests that wait are refused at once. Then it ends all the same; nothing is lost: what was not done is done at the next start.",
    )


class ControlSettings(Section):
    """Where decisions are kept: candidates, approvals, rollouts, assignments, keys, the judge's ledger."""

    url: SecretStr | None = Field(
        None,
        description="`postgresql+psycopg://user:password@host/name`, only from the environment (TRIMTAB_CONTROL__URL); default: control.db in the state directory.",
    )


class AccessSettings(Section):
    """Who is let in, on the public port and on the admin ports."""

    trust_loopback: bool = Field(
        False,
        description="Whoever asks from this machine, and not through a proxy, may do everything without a key, also where there are keys (`--trust-loopback`). Without, that ends with the first key.",
    )
    host_names: tuple[str, ...] = Field(
        (),
        description="Names by which a port is asked for, as the Host header has them, without a port. One that listens on this machine alone answers to localhost, to the address it listens on and to these; one that others reach to every name, and where some are listed to these alone, besides addresses.",
    )

    @field_validator("host_names")
    @classmethod
    def _names(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if not _HOST_NAME.fullmatch(name):
                raise ValueError(
                    f"{name!r} is no host name: write it without scheme, port and path, as trimtab.example"
                )
        return tuple(name.lower() for name in names)


class TrainSettings(Section):
    """When to retrain. One training at a time; each start's reason is recorded."""

    every_s: int = Field(
        86_400,
        ge=0,
        description="Retrain when the last training began this long ago and there is any new label (0: never by time).",
    )
    min_new_human_labels: int = Field(
        200, ge=0, description="Retrain when so many new labels by people have come in (0: never by this)."
    )
    min_new_verdicts: int = Field(
        2_000, ge=0, description="Retrain when so many new verdicts have come in (0: never by this)."
    )
    min_labels: int = Field(20, gt=0, description="Fewest labels that a training is worth.")
    check_every_s: float = Field(60, gt=0, description="How often these rules are looked at.")
    time_limit_s: float = Field(
        6 * 3_600, gt=0, description="A training that takes longer is stopped and counts as failed."
    )
    backoff_s: float = Field(
        600, ge=0, description="Pause after a failed training; doubles with each failure in a row, up to a day."
    )


class GateSettings(Section):
    """The offline gate: what a candidate must show before a person is asked."""

    probe_floor: float = Field(
        1e-3,
        ge=0,
        description="Smallest largest difference of probe log-probabilities (nats per token) from the base; below: a no-op, rejected.",
    )
    max_length_ratio: float = Field(
        2.0, gt=1, description="Sampled replies may be so many times longer or shorter than the incumbent's."
    )
    max_repetition: float = Field(
        0.5, gt=0, le=1, description="Largest mean share of repeated word 3-grams in sampled replies."
    )
    max_language_loss: float = Field(
        0.1,
        ge=0,
        le=1,
        description="Largest drop, against the incumbent, of the share of samples in their prompt's language.",
    )
    max_unended_rise: float = Field(
        0.2,
        ge=0,
        le=1,
        description="Largest rise, against the incumbent, of the share of samples that had not ended at their limit; above: hold.",
    )
    max_gate_kl: float = Field(
        1.0, gt=0, description="Largest distance from the base on gate prompts (KL, nats per token); above: hold."
    )
    max_neutral_kl: float = Field(
        0.5, gt=0, description="Largest distance from the base on neutral questions (KL, nats per token); above: hold."
    )
    max_facts_lost: int = Field(
        2,
        ge=0,
        description="Of 24 fixed questions so many more may be lost than gained, against the base; above: hold.",
    )


class CompareSettings(Section):
    """Blind comparisons: the candidate's reply and the incumbent's to one prompt, shown to people and to the judge."""

    people: float | None = Field(
        None,
        gt=0,
        le=1,
        description="The part of the pairs that a person is asked about, drawn by chance; default: 1 where there is no judge, 0.2 where there is one, which then speaks of all pairs.",
    )
    second: float = Field(
        0.1,
        ge=0,
        le=1,
        description="Of those the part that a second person is asked about too: it shows how far people agree.",
    )
    expires_s: int = Field(
        3 * 86_400,
        gt=0,
        description="A label that is not there so long after its pair was sampled counts as a tie; what comes later counts nowhere.",
    )


class ApproveSettings(Section):
    """Where a person must say yes."""

    before: tuple[Literal["train", "rollout"], ...] = Field(
        ("rollout",), description="Steps that wait for an approval."
    )
    expires_s: int = Field(48 * 3_600, gt=0, description="An approval is good for so long.")


class RolloutSettings(Section):
    """How a candidate reaches users."""

    shares: tuple[float, ...] = Field(
        (0.05, 0.25, 0.5, 0.95, 1.0),
        description="Shares of users (conversations where none is known) that each `promote` moves to; the last is 1. Before it a share of 0.95 still leaves somebody to compare with.",
    )
    max_error_rise: float = Field(
        0.01,
        gt=0,
        lt=1,
        description="The share of users who meet an error may be so much higher than the incumbent's and still count as not worse.",
    )
    max_dislike_rise: float = Field(
        0.02,
        gt=0,
        lt=1,
        description="The share of users who rate a reply as bad may be so much higher than the incumbent's and still count as not worse.",
    )
    min_stage_s: int = Field(
        4 * 86_400, ge=0, description="A share lasts so long at least, unless a person overrides it."
    )
    max_stage_s: int = Field(
        28 * 86_400, gt=0, description="A share that has lasted so long without enough evidence is on hold, and pages."
    )
    slices: tuple[str, ...] = Field(
        (),
        description='Groups of users that are looked at for harm by themselves: `["locale:es", "plan:free"]`, by locale or by a tag.',
    )
    advance: Literal["by hand", "by evidence"] = Field(
        "by hand",
        description="Who moves to the next share: a person (`trimtab promote`), or the controller once there is evidence. Harm is rolled back either way.",
    )

    @field_validator("slices")
    @classmethod
    def _name_values(cls, slices: tuple[str, ...]) -> tuple[str, ...]:
        for name in slices:
            if not all(name.partition(":")[::2]):
                raise ValueError(f"{name!r} names no group: write locale:es, or a tag and its value as plan:free")
        return tuple(dict.fromkeys(slices))

    @field_validator("shares")
    @classmethod
    def _rise_to_one(cls, shares: tuple[float, ...]) -> tuple[float, ...]:
        rising = all(low < high for low, high in zip((0.0, *shares), shares, strict=False))
        if not shares or not rising or shares[-1] != 1:
            raise ValueError("shares must rise, above 0, and end at 1, for example [0.05, 0.5, 1.0]")
        return shares


class Settings(BaseSettings):
    """All of trimtab.toml."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix="TRIMTAB_", env_nested_delimiter="__", env_ignore_empty=True
    )

    broker: BrokerSettings = BrokerSettings()
    process: ProcessSettings = ProcessSettings()
    access: AccessSettings = AccessSettings()
    control: ControlSettings = ControlSettings()
    window: WindowSettings = WindowSettings()
    judge: JudgeSettings = JudgeSettings()
    base: BaseModelSettings = BaseModelSettings()
    tiny: TinySettings = TinySettings()
    reward: RewardSettings = RewardSettings()
    policy: PolicySettings = PolicySettings()
    train: TrainSettings = TrainSettings()
    gate: GateSettings = GateSettings()
    compare: CompareSettings = CompareSettings()
    approve: ApproveSettings = ApproveSettings()
    rollout: RolloutSettings = RolloutSettings()
    shadow: ShadowSettings = ShadowSettings()
    engine: EngineSettings = EngineSettings()
    gateway: GatewaySettings = GatewaySettings()

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if crossed := [each for name, section in self for each in section.crossed(name)]:
            raise ValueError("; ".join(crossed))
        if (ours := self.gateway.model_alias) in self.engine.aliases:
            raise ValueError(
                f"engine.aliases: {ours!r} is gateway.model_alias, the name of what is served: give the alias another name"
            )
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return env_settings, init_settings  # the environment overrides the file


SECRETS = (
    ("judge", "api_key", "set TRIMTAB_JUDGE__API_KEY, or name a file in judge.api_key_file"),
    ("engine", "api_key", "set TRIMTAB_ENGINE__API_KEY, or name a file in engine.api_key_file"),
    ("control", "url", "set TRIMTAB_CONTROL__URL"),
    ("broker", "password", "set TRIMTAB_BROKER__PASSWORD"),
)


def load_settings(path: Path | None) -> Settings:
    """Settings from `path`, else trimtab.toml here, else the defaults; raises Failed with every mistake and its place."""
    file = path or Path("trimtab.toml")
    document: dict[str, object] = {}
    if path is not None or file.exists():
        try:
            document = tomllib.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise Failed(f"there is no configuration file {file}") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise Failed(f"{file} is not valid TOML: {error}") from None
    _refuse_secret(document, file)
    _refuse_unknown_environment()
    try:
        return Settings(**document)  # type: ignore[arg-type]
    except ValidationError as error:
        raise Failed("; ".join(explain(error, file))) from None
    except SettingsError as error:
        raise Failed("the environment: " + ("; ".join(_no_lists()) or str(error))) from None


def explain(error: ValidationError, file: Path) -> list[str]:
    """One clause per mistake, each naming the key and, for a misspelt one, the likely right one; by file and environment."""
    variables = _environment()
    clauses: dict[str, list[str]] = {}
    for mistake in error.errors():
        key = ".".join(str(part) for part in mistake["loc"])
        names = (variable(".".join(key.split(".")[:2])), variable(key.split(".")[0]))
        name = next((name for name in names if variables.get(name)), None)
        clause = _clause(name or key, mistake["type"], mistake["msg"])
        clauses.setdefault(str(file) if name is None else "the environment", []).append(clause)
    return [f"{place}: {'; '.join(said)}" for place, said in clauses.items()]


def _clause(key: str, kind: str, message: str) -> str:
    if kind == "extra_forbidden":
        near = difflib.get_close_matches(key, [*keys(), *Settings.model_fields], n=1)
        return f"unknown key {key}" + (f" (did you mean {near[0]}?)" if near else "")
    if kind == "model_type":
        return f"{key} is a section: write [{key}], and its keys below"
    return f"{key}: {message}" if key else message


def variable(key: str) -> str:
    """The environment's name for a key."""
    return f"TRIMTAB_{key.replace('.', '__').upper()}"


def _environment() -> dict[str, str]:
    """Variables as settings see them: in capitals or not is the same."""
    return {name.upper(): value for name, value in os.environ.items()}


def _no_lists() -> Iterator[str]:
    """A clause for each variable that has to be a list and is none; pydantic-settings names the section alone."""
    variables = _environment()
    for key in keys():
        section, name = key.split(".")
        default = getattr(Settings.model_fields[section].default, name)
        if isinstance(default, tuple) and (text := variables.get(variable(key))):
            try:
                json.loads(text)
            except ValueError:
                yield f"{variable(key)} must be a list in JSON, as its default is: {json.dumps(default)}"


def keys() -> Iterator[str]:
    """Every key of trimtab.toml, as `section.key`."""
    for section, field in Settings.model_fields.items():
        assert isinstance(field.annotation, type)
        assert issubclass(field.annotation, Section)
        for key in field.annotation.model_fields:
            yield f"{section}.{key}"


def _refuse_secret(document: dict[str, object], file: Path) -> None:
    for section, key, remedy in SECRETS:
        values = document.get(section)
        if isinstance(values, dict) and key in values:
            raise Failed(f"{file}: {section}.{key} is a secret: {remedy}")


def _refuse_unknown_environment() -> None:
    """A misspelt variable must not pass in silence (pydantic-settings ignores what it does not know)."""
    known = {variable(key) for key in keys()}
    for name in os.environ:
        upper = name.upper()
        if upper.startswith("TRIMTAB_") and "__" in upper and upper not in known:
            near = difflib.get_close_matches(upper, sorted(known), n=1)
            raise Failed(f"the environment: unknown variable {name}" + (f" (did you mean {near[0]}?)" if near else ""))
