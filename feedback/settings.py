"""Settings of what counts as feedback: the window, the judge. Frozen; parsed once by `deploy.settings`, passed down."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationInfo, field_validator, model_validator

from feedback.private import Exposed, keep_private

DAY_S = 86_400
CENTURY_S = 36_525 * DAY_S
EVERYBODY = 0o007


class Section(BaseModel):
    """A section of trimtab.toml: immutable, and an unknown key is an error, as is a number that is infinite or none."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*")
    @classmethod
    def _within_a_century(cls, value: object, info: ValidationInfo) -> object:
        """Times are added to the clock's, in microseconds, and kept as whole numbers of 64 bits."""
        if (info.field_name or "").endswith("_s") and isinstance(value, int | float) and value > CENTURY_S:
            raise ValueError(f"at most {CENTURY_S} s, a hundred years")
        return value

    def crossed(self, section: str) -> Iterator[str]:
        """A sentence for each least (`min_…`) that is more than its most (`max_…`): nothing could be both."""
        for least, value in self:
            most = least.replace("min_", "max_", 1)
            if least.startswith("min_") and value > (limit := getattr(self, most, math.inf)):
                yield f"{section}.{least} ({value}) is more than {section}.{most} ({limit}): lower the one, or raise the other"


class WindowSettings(Section):
    """Which exchanges a snapshot is made of."""

    max_age_s: int = Field(
        90 * DAY_S, gt=0, description="Older exchanges (by occurred_at, against as_of) are left out."
    )
    max_exchanges: int = Field(200_000, gt=0, description="Most exchanges in a snapshot; a bottom-k sample by hash.")
    max_per_user: int = Field(500, gt=0, description="Most exchanges of one user.")
    max_locale_share: float = Field(
        0.9,
        gt=0,
        le=1,
        description="Most of max_exchanges that one locale may take, where there are several (1: no cap).",
    )
    max_judge_share: float = Field(
        0.7, gt=0, le=1, description="Most of the labels' number that the judge may give, where people gave any."
    )
    max_per_prompt: int = Field(
        8,
        gt=0,
        description="Most exchanges whose prompts are the same or nearly so: labelled ones first, then a sample by hash.",
    )
    near_duplicate: float = Field(
        0.8, gt=0, le=1, description="Jaccard similarity of word 3-shingles from which two prompts are near-duplicates."
    )
    max_user_edits: int = Field(20, gt=0, description="Most demonstrations from one user's own edits.")
    max_anonymous_edits: int = Field(
        20, ge=0, description="Most demonstrations from the edits of people without a name, of all of them together."
    )


class JudgeSettings(Section):
    """The AI judge: any OpenAI-compatible server. Without `base_url` and `model` there is no judge, and none is asked without a price."""

    base_url: str | None = Field(
        None, description="Base URL of an OpenAI-compatible server, e.g. http://127.0.0.1:8000/v1."
    )
    model: str | None = Field(None, description="Name of the judge model there.")
    api_key: SecretStr | None = Field(
        None, description="Its key; only from the environment (TRIMTAB_JUDGE__API_KEY) or api_key_file."
    )
    api_key_file: Path | None = Field(None, description="A file that holds the key.")
    rubric: Path | None = Field(None, description="Rubric file (TOML); default: the one that ships with Trimtab.")
    grace_s: float = Field(
        3_600, ge=0, description="How long a turn may wait for a rating before it goes to the judge."
    )
    max_waiting: int = Field(
        10_000,
        gt=0,
        description="Questions that may wait for the judge; beyond, a sample is asked: every second, at twice as many every fourth.",
    )
    parallel: int = Field(8, gt=0, description="Most questions in flight.")
    timeout_s: float = Field(60, gt=0, description="Time limit of one question.")
    attempts: int = Field(4, gt=0, description="Tries of one question, with jittered exponential backoff between them.")
    max_tokens: int = Field(400, gt=0, description="Most tokens of one answer.")
    usd_per_hour: float = Field(1.0, ge=0, description="Budget per UTC hour.")
    usd_per_day: float = Field(10.0, ge=0, description="Budget per UTC day.")
    usd_per_million_prompt_tokens: float | None = Field(
        None, ge=0, description="Price of what is asked. Nothing is asked without both prices, or `free`."
    )
    usd_per_million_completion_tokens: float | None = Field(None, ge=0, description="Price of what is answered.")
    free: bool = Field(False, description="It costs nothing per token: a model on a machine of your own, say.")

    @model_validator(mode="after")
    def _costs_or_not(self) -> Self:
        if self.free and (self.usd_per_million_prompt_tokens or self.usd_per_million_completion_tokens):
            raise ValueError("judge.free says that it costs nothing, and there is a price: take one of them away")
        return self

    @property
    def unpriced(self) -> str | None:
        """Why a judge that is configured is not asked, as a sentence: nobody knows what it would cost."""
        names = ("usd_per_million_prompt_tokens", "usd_per_million_completion_tokens")
        missing = [f"judge.{name}" for name in names if getattr(self, name) is None]
        if not self.configured or self.free or not missing:
            return None
        return (
            f"the judge is not asked, because nobody knows what it costs: set {' and '.join(missing)}, or judge.free = true "
            f"where it costs nothing"
        )

    @field_validator("base_url")
    @classmethod
    def _http(cls, url: str | None) -> str | None:
        try:
            parts = urlsplit("http://none" if url is None else url)
            sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            sound = False
        if not sound:
            raise ValueError("must be http:// or https:// with a host, and its path: http://127.0.0.1:8000/v1")
        return url

    @property
    def configured(self) -> bool:
        return self.base_url is not None and self.model is not None

    @property
    def asked(self) -> bool:
        """Whether there is a judge that may be asked."""
        return self.configured and self.unpriced is None

    @property
    def address(self) -> str:
        """`base_url` for people: without a password, and without what stands behind a question mark."""
        before, at, host = (self.base_url or "").rpartition("@")
        scheme, slashes, _ = before.partition("//")
        shown = f"{scheme}{slashes}" if slashes else ""
        return f"{shown}{'…@' if at else ''}{host.partition('?')[0]}"

    @property
    def address_password(self) -> str | None:
        """The password in `base_url`, if there is one."""
        before, at, _ = (self.base_url or "").rpartition("@")
        return before.partition("//")[2 if "//" in before else 0].partition(":")[2] or None if at else None


class KeyUnusable(Exception):
    """A key that can't be read or can't be one; says where it was to come from."""


def read_key(section: str, key: SecretStr | None, file: Path | None) -> str | None:
    """The key of the `section` of settings, from the environment or a file; None where there is none. Raises KeyUnusable.

    A file of ours is made private. One of somebody else may be for a group, which is how root gives it to one service, or be in
    /run/secrets, which is a container's own.
    """
    if key is not None:
        said, source = key.get_secret_value().strip(), f"TRIMTAB_{section.upper()}__API_KEY"
    elif file is not None:
        source = f"file {file}"
        try:
            keep_private(file)
        except Exposed as error:
            if error.mode & EVERYBODY and not file.is_relative_to("/run/secrets"):
                raise KeyUnusable(
                    f"the {section}'s key {source} can be read by everybody on this machine (mode {error.mode:04o}): change that as "
                    f"its owner with `chmod 600`, or where it is mounted, and the key too if others were there"
                ) from None
        except OSError:
            pass  # reading says it
        try:
            said = file.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise KeyUnusable(f"the {section}'s key {source} can't be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise KeyUnusable(f"the {section}'s key {source} is no text") from None
    else:
        return None
    if not said or not said.isascii() or not said.isprintable():
        raise KeyUnusable(f"the {section}'s key in {source} is empty or holds characters that no key has")
    return said
