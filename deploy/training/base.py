"""Which base is trained on and served where no setting names one.

`base.name` decides. Else it is the base that a replay chose for this state directory and noted there once it had a candidate,
so that every later command goes by it; else `tiny`, as the settings say. A replay chooses SmolLM2 where the processor has
bf16, but for a state directory that has a tiny base already.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from msgspec import Struct

from deploy.settings import Settings
from deploy.state import State
from feedback.durable import write_json
from models.bases import SMOLLM2, TINY

Name = Literal["tiny", "smollm2"]
BASES: tuple[Name, ...] = (TINY, SMOLLM2)  # type: ignore[assignment]

QUICK = {
    "reward": {"max_labels": 160, "epochs": 1, "batch_size": 8, "lora_layers": 10, "learning_rate": 1e-3},
    "policy": {
        "max_examples": 128,
        "epochs": 1,
        "batch_size": 8,
        "lora_layers": 12,
        "learning_rate": 1e-3,
        "best_of_prompts": 8,
        "sample_tokens": 96,
    },
}
"""Less than the defaults of a training, and more steps for it, for the sections that say nothing else."""


class Choice(Struct, frozen=True):
    """A base for one replay."""

    name: str
    by: Literal["setting", "option", "note", "processor", "default"]


def choose_base(configured: Settings, state: State, asked: str | None, bf16: bool) -> Choice:
    """`configured`: as they were read, without what is noted; `asked`: what the command line names."""
    if is_named(configured):
        return Choice(configured.base.name, "setting")
    if asked is not None:
        return Choice(asked, "option")
    if (noted := noted_base(state.root)) is not None:
        return Choice(noted, "note")
    if any((state.root / "bases").glob(f"{TINY}-of-*.json")):
        return Choice(TINY, "note")
    return Choice(SMOLLM2, "default") if bf16 else Choice(TINY, "processor")


def is_named(configured: Settings) -> bool:
    """Whether trimtab.toml or the environment names a base."""
    return "name" in configured.base.model_fields_set


def with_base(configured: Settings, name: str | None) -> Settings:
    """The settings with this base; None: as they are."""
    if name is None:
        return configured
    return configured.model_copy(update={"base": configured.base.model_copy(update={"name": name})})


def with_noted_base(configured: Settings, state: Path) -> Settings:
    """The settings with the base that is noted in this state directory, where they name none."""
    return configured if is_named(configured) else with_base(configured, noted_base(state))


def sentence(choice: Choice, settings: Settings, bf16: bool) -> str | None:
    """What whoever replays should know of the base; None where the settings name it, or it was told already."""
    match choice:
        case Choice(_, "setting") | Choice("tiny", "default"):
            return None
        case Choice("tiny", "processor"):
            return (
                "the base is `tiny`, the small model for tests: this processor has no bf16, and SmolLM2 would take long "
                "(`--base smollm2` takes it all the same)"
            )
        case Choice("tiny"):
            return "the base is `tiny`, the small model for tests"
    how_long = "about five minutes on two cores" if bf16 else "it takes long, for this processor has no bf16"
    return (
        f"the base is SmolLM2-135M-Instruct (Apache-2.0; 93 MB, fetched once), here on at most "
        f"{settings.reward.max_labels} labels: {how_long} (`trimtab train` takes all labels)"
    )


def quickly(settings: Settings) -> Settings:
    """The settings of a short training: QUICK, but for what somebody has set otherwise."""
    sections = {}
    for section, values in QUICK.items():
        found = getattr(settings, section)
        sections[section] = found.model_copy(
            update={key: value for key, value in values.items() if key not in found.model_fields_set}
        )
    return settings.model_copy(update=sections)


def noted_base(state: Path) -> str | None:
    """What `note_base` noted; None where nothing is, or what is there is none of ours."""
    try:
        name = json.loads(_note(state).read_bytes())["base"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return name if name in BASES else None


def note_base(state: Path, name: str) -> None:
    """Every later command in this state directory goes by it, unless a setting names another."""
    write_json(_note(state), {"base": name})


def _note(state: Path) -> Path:
    return state / "bases" / "chosen.json"
