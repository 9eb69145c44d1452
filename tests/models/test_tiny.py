from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.errors import JobFailed
from models.settings import BaseModelSettings, TinySettings
from models.tiny import longest_contexts, train_tiny, windows
from tests.models.snapshots import said, turn

fixture_is_constant = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def test_a_conversation_is_learned_from_once_with_its_longest_context() -> None:
    short = turn(1, "train", said("Hi"), "Hello")
    longer = [*said("Hi"), {"role": "assistant", "content": "Hello"}, *said("Bye")]
    long = turn(1, "train", longer, "Goodbye")
    assert longest_contexts([long, short]) == longest_contexts([short, long]) == [
        [*longer, {"role": "assistant", "content": "Goodbye"}]
    ]  # fmt: skip


@fixture_is_constant
@given(
    texts=st.lists(
        st.tuples(st.sampled_from(["user", "assistant"]), st.text("abc", min_size=1, max_size=80)), max_size=9
    ),
    limit=st.integers(8, 60),
)
def test_windows_keep_to_their_length_and_keep_every_target_that_fits(
    chat: Any, texts: list[tuple[str, str]], limit: int
) -> None:
    messages = [{"role": role, "content": text} for role, text in texts]
    found = windows(chat, messages, limit)
    assert all(0 < sum(len(ids) for ids, _ in pieces) <= limit for pieces in found)
    assert all(any(target for _, target in pieces) for pieces in found)
    fitting = sum(len(chat.reply(t, 999)) for r, t in texts if r == "assistant" and len(chat.reply(t, 999)) < limit)
    targets = sum(len(ids) for pieces in found for ids, target in pieces if target)
    assert targets >= fitting


def test_no_base_is_trained_on_empty_replies(tmp_path: Path) -> None:
    turns = [turn(n, "train", said("Where?"), " ") for n in range(20)]
    with pytest.raises(JobFailed, match="has 0 conversations with a reply that is not empty, a tiny base needs 8"):
        train_tiny(turns, BaseModelSettings(), TinySettings(), tmp_path, tmp_path, lambda step, of: None)
