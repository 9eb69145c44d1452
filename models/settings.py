"""Settings of what is learned, and of what answers. No torch here: settings parse before torch is imported."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from feedback.settings import Section


class BaseModelSettings(Section):
    """The model that is adapted and served."""

    name: str = Field(
        "tiny",
        description="A Hugging Face name, a local directory, or `tiny`: a small model trained here, for machines without a hub.",
    )
    revision: str | None = Field(None, description="Revision of a Hugging Face model.")
    max_length: int = Field(
        256, gt=32, description="Most tokens of prompt and reply together; the oldest messages are dropped first."
    )


class TinySettings(Section):
    """The `tiny` base: a Llama-style model with its own byte-level BPE tokenizer, trained on the train split."""

    vocabulary: int = Field(1_500, ge=300, description="Tokens of its tokenizer.")
    layers: int = Field(4, gt=0, description="Transformer layers.")
    width: int = Field(192, gt=0, description="Hidden size.")
    steps: int = Field(450, gt=0, description="Training steps.")
    batch_tokens: int = Field(
        1_500, gt=0, description="Most tokens of one batch, so that a step costs the same on any data."
    )
    learning_rate: float = Field(2e-3, gt=0, description="Peak learning rate.")


class RewardSettings(Section):
    """The reward model."""

    lora_rank: int = Field(16, gt=0, description="Rank of its LoRA adapter.")
    learning_rate: float = Field(1e-3, gt=0, description="Peak learning rate.")
    epochs: int = Field(2, gt=0, description="Passes over its labels.")
    batch_size: int = Field(16, gt=0, description="Labels in one step.")
    max_labels: int = Field(4_000, gt=0, description="Most labels of one training run, the newest first.")


class PolicySettings(Section):
    """The policy update."""

    lora_rank: int = Field(16, gt=0, description="Rank of the LoRA adapter.")
    learning_rate: float = Field(1e-3, gt=0, description="Peak learning rate.")
    epochs: int = Field(2, gt=0, description="Passes over the data.")
    batch_size: int = Field(16, gt=1, description="Examples in one step (KTO's KL term needs more than one).")
    beta: float = Field(0.1, gt=0, description="Strength of the pull towards the reference policy, for DPO and KTO.")
    likelihood: float = Field(
        1.0, ge=0, description="Weight of the likelihood term on the chosen reply; without it DPO collapses."
    )
    max_examples: int = Field(4_000, gt=0, description="Most examples of one training run, the newest first.")
    best_of: int = Field(
        4, ge=0, description="Samples per prompt among which the reward model chooses best and worst (0: none)."
    )
    best_of_prompts: int = Field(128, ge=0, description="Train prompts that are sampled for that.")
    best_of_weight: float = Field(
        0.3,
        ge=0,
        le=1,
        description="Weight of a pair that the reward model chose; together at most half the weight of all other labels.",
    )
    sample_tokens: int = Field(48, gt=0, description="Most tokens of one sampled reply.")
    seed: int = Field(0, description="Seed of every random choice in training.")


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
            if not sound or parts.username or parts.query or parts.fragment:
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
