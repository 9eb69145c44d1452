"""The rubric: named items that a reply is judged by, in a TOML file, versioned by the hash of what it says."""

from __future__ import annotations

import hashlib
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

Name = Annotated[str, Meta(pattern="^[a-z][a-z0-9_]{0,31}$")]


class RubricError(Exception):
    """The rubric file can't be used; the sentence names the key at fault."""


class Item(Struct, frozen=True, forbid_unknown_fields=True):
    """One thing that a reply is scored on, 1 to 5."""

    name: Name
    description: Annotated[str, Meta(min_length=1, max_length=2_000)]
    weight: Annotated[float, Meta(gt=0, le=1_000)] = 1.0


class Rubric(Struct, frozen=True, forbid_unknown_fields=True):
    """All items, and what the judge is told beforehand."""

    name: str
    instructions: Annotated[str, Meta(min_length=1, max_length=10_000)]
    items: Annotated[tuple[Item, ...], Meta(min_length=1, max_length=20)]

    @property
    def version(self) -> str:
        """Hash of what the rubric says, 16 hex digits."""
        return hashlib.sha256(msgspec.json.encode(self, order="sorted")).hexdigest()[:16]

    def overall(self, scores: dict[str, float]) -> float:
        """Weighted mean over the items of scores within 0..1."""
        total = sum(item.weight for item in self.items)
        return sum(item.weight * scores[item.name] for item in self.items) / total


def load(path: Path | None = None) -> Rubric:
    """The rubric in a file (None: the one that ships with Trimtab); raises RubricError."""
    shown = path or "the shipped rubric"
    try:
        text = (
            path.read_text(encoding="utf-8")
            if path
            else (files("feedback.judge") / "rubric.toml").read_text(encoding="utf-8")
        )
        rubric = msgspec.convert(tomllib.loads(text), Rubric)
    except OSError as error:
        raise RubricError(f"the rubric {shown} can't be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RubricError(f"the rubric {shown} is not valid TOML: {error}") from None
    except msgspec.ValidationError as error:
        raise RubricError(f"the rubric {shown}: {error}") from None
    names = [item.name for item in rubric.items]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise RubricError(f"the rubric {shown}: the item {twice!r} stands there twice")
    return rubric


def diff(one: Rubric, other: Rubric) -> list[str]:
    """What changed from one rubric to the other, a line each."""
    lines = []
    if one.instructions.strip() != other.instructions.strip():
        lines.append("instructions changed")
    before, after = ({item.name: item for item in rubric.items} for rubric in (one, other))
    lines += [f"item {name} removed" for name in before.keys() - after.keys()]
    lines += [f"item {name} added" for name in after.keys() - before.keys()]
    for name in before.keys() & after.keys():
        if before[name].weight != after[name].weight:
            lines.append(f"item {name}: weight {before[name].weight:g} became {after[name].weight:g}")
        if before[name].description != after[name].description:
            lines.append(f"item {name}: description changed")
    return sorted(lines)
