"""Settings of what serves chats: the gateway and the engine behind it. Parsed with all others by `deploy.settings`."""

from __future__ import annotations

import re
from ipaddress import ip_network
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from feedback.settings import Section

_ORIGIN = re.compile(r"(?!https:.*:443$|http:.*:80$)[a-z][a-z0-9+.-]*://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:[1-9]\d{0,4})?")


class GatewaySettings(Section):
    """The OpenAI-compatible front door."""

    max_request_bytes: int = Field(10_000_000, gt=0, description="Larger requests get a 413.")
    max_tokens: int = Field(256, gt=0, description="Most tokens of a reply.")
    queue: int = Field(64, gt=0, description="Requests that may wait for the engine; beyond: 429.")
    cors_origins: tuple[str, ...] = Field(
        (),
        description="Origins of web pages that may chat and post feedback from the browser, each as the browser says it: `https://shop.example`.",
    )
    max_connections: int = Field(
        1_000,
        gt=0,
        description="Most open connections of clients; beyond, one that waits for a request is closed, or the new one gets a 503. Never more than the limit of open files leaves room for.",
    )
    keep_alive_s: float = Field(
        75,
        gt=0,
        description="How long a connection is kept without a request: longer than the load balancer before it keeps its own (usually 60), else it now and then sends a request into a closed one.",
    )
    requests_per_minute: int = Field(
        0,
        ge=0,
        description="Most requests a minute of one caller, as many at once at first; beyond: 429 with `Retry-After`. A caller is the user whom a key's request names, else the key, else the address. 0: no limit.",
    )
    trusted_proxies: tuple[str, ...] = Field(
        (),
        description="Addresses or networks (`10.0.0.0/8`) of the proxies before this service. From them, and nobody else, X-Forwarded-For and Forwarded are believed.",
    )
    model_alias: str = Field("trimtab", description="The name that clients ask for, in /v1/models.")
    spool_bytes: int = Field(
        1_000_000_000, gt=0, description="Events may wait in spool.db, up to so many bytes, while the broker is away."
    )
    on_full: Literal["drop", "refuse"] = Field(
        "drop", description="When that or its disk is full: answer all the same and count the loss, or refuse with 503."
    )

    @field_validator("cors_origins")
    @classmethod
    def _as_browsers_say_them(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            if origin == "*":
                raise ValueError("'*' would let every page on the web in: name the origins, as https://shop.example")
            if not _ORIGIN.fullmatch(origin):
                raise ValueError(
                    f"{origin!r} is no origin as a browser says it: scheme, host in small letters, and a port unless it "
                    "is the usual one; no path and no slash at the end, as https://shop.example"
                )
        return origins

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, proxies: tuple[str, ...]) -> tuple[str, ...]:
        for proxy in proxies:
            try:
                ip_network(proxy)
            except ValueError as error:
                raise ValueError(f"{error}; write an address or a network, as 10.0.0.0/8") from None
        return proxies


class ShadowSettings(Section):
    """The shadow stage: a candidate that lacks nothing but comparisons answers a copy of some turns, unseen."""

    share: float = Field(
        0.05,
        ge=0,
        le=1,
        description="Part of the users (conversations where none is known) of whom one turn each is copied; 0: none, and no candidate comes into the shadow.",
    )
    parallel: int = Field(1, gt=0, description="Most such replies under way at a gateway; a turn beyond is not copied.")
    timeout_s: float = Field(60, gt=0, description="How long such a reply may take, all in all; then it has failed.")
    max_per_day: int = Field(
        2_000, ge=0, description="Most copies that a candidate is asked for in a day (UTC), by all gateways together."
    )
    min_s: int = Field(86_400, ge=0, description="The stage lasts so long at least, though there is evidence enough.")
    max_s: int = Field(
        14 * 86_400,
        gt=0,
        description="After so long without enough evidence it ends: the candidate stays held, and it pages.",
    )


class EngineSettings(Section):
    """What replies come from."""

    kind: Literal["local", "openai", "vllm"] = Field(
        "local",
        description="`local`: a small model in the gateway's own process. `openai`: any OpenAI-compatible server or hosted API, as it is, without adapters. `vllm`: vLLM servers, which load adapters as they are rolled out.",
    )
    urls: tuple[str, ...] = Field(
        (),
        description="Where such a server answers, with its `/v1`: `https://api.example.com/v1`. Several: the least loaded is asked, and another where one fails.",
    )
    model: str | None = Field(None, description="What that server calls the model that is served.")
    aliases: dict[str, str] = Field(
        {}, description="More names that clients may ask for, each with what the server calls it."
    )
    api_key: SecretStr | None = Field(
        None, description="The server's key; only from the environment (TRIMTAB_ENGINE__API_KEY) or api_key_file."
    )
    api_key_file: Path | None = Field(None, description="A file that holds the key.")
    adapters_seen_as: Path | None = Field(
        None,
        description="With `vllm`: where its servers find what lies in `adapters/` of the state directory; default: that very path.",
    )
    max_loras: int = Field(
        4,
        ge=2,
        description="With `vllm`: how many adapters it was started for (`--max-loras`). One is the base's, the others are for incumbent, candidate and those that are asked for by name.",
    )
    chat: Literal["templated", "always"] = Field(
        "templated",
        description="With `vllm`: `templated` sends plain text as token ids that the base's own chat template made, as in training (a marker that a user types stays text), and all else (tools, images, formats) to the server's chat endpoint. `always` sends everything there, for servers that parse reasoning out of replies, say.",
    )
    limit: int = Field(1_000, gt=0, description="Requests that may be under way on such a server; beyond: 429.")
    first_word_within_s: float = Field(
        120, gt=0, description="How long it may take to begin a reply (to give all of it, where none is streamed)."
    )
    next_word_within_s: float = Field(60, gt=0, description="How long it may be silent within a reply.")

    @field_validator("urls")
    @classmethod
    def _http(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        for url in urls:
            try:
                parts = urlsplit(url)
                sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
            except ValueError:
                sound = False
            if not sound or "@" in parts.netloc or parts.query or parts.fragment:
                raise ValueError("must be http:// or https:// with a host, and its path: https://api.example.com/v1")
            if parts.path.rstrip("/").endswith(("/completions", "/models")):
                raise ValueError(f"{url} is one of the server's services: write what comes before, as far as /v1")
        bare = tuple(url.rstrip("/") for url in urls)
        if len(set(bare)) < len(bare):
            raise ValueError("one of them stands there twice: each server counts once")
        return bare

    @property
    def takes_adapters(self) -> bool:
        """Whether what is trained can be served."""
        return self.kind != "openai"

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.kind != "local" and not (self.urls and self.model):
            raise ValueError(f"kind = {self.kind!r} needs urls and model")
        if self.kind == "local" and (self.urls or self.model):
            raise ValueError(
                "kind = 'local' asks no server: leave urls and model out, or set kind to 'openai' or 'vllm'"
            )
        if self.adapters_seen_as is not None and self.kind != "vllm":
            raise ValueError(f"adapters_seen_as is for kind = 'vllm', and kind is {self.kind!r}")
        if self.kind == "local" and self.aliases:
            raise ValueError("aliases are for what a server has, and kind = 'local' asks none")
        if self.model in self.aliases:
            raise ValueError(f"the alias {self.model!r} is what the server calls its model already: leave it out")
        return self
