"""What OpenAI's client has read, to be compared field by field."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from pydantic import BaseModel


def plainly(answer: Any, without: Callable[[dict[str, Any]], Collection[str]]) -> Any:
    """As plain JSON, each object in it without the fields that `without` says of it."""
    if isinstance(answer, list):
        return [plainly(one, without) for one in answer]
    if isinstance(answer, BaseModel):
        return plainly(answer.to_dict() if hasattr(answer, "to_dict") else answer.model_dump(), without)
    if isinstance(answer, dict):
        left_out = without(answer)
        return {name: plainly(value, without) for name, value in answer.items() if name not in left_out}
    return answer
