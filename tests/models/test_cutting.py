"""What is kept of a conversation fits, and nothing more would."""

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.chat import Chat
from models.cutting import fewest_dropped, prompt_room, reply_room, share
from tests.models.snapshots import said

fixture_is_constant = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
SYSTEM = {"role": "system", "content": "Be kind."}


@given(sizes=st.lists(st.integers(1, 50), max_size=100), room=st.integers(0, 400))
def test_no_fewer_messages_could_be_dropped(sizes: list[int], room: int) -> None:
    dropped = fewest_dropped(len(sizes), lambda n: sum(sizes[n:]) <= room)
    assert dropped == next((n for n in range(len(sizes)) if sum(sizes[n:]) <= room), len(sizes))


@given(room=st.integers(-5, 200), first=st.integers(0, 300), last=st.integers(0, 300))
def test_two_messages_share_the_room_and_none_of_it_is_left(room: int, first: int, last: int) -> None:
    kept = share(room, first, last)
    assert sum(kept) == max(0, min(room, first + last))
    assert kept[0] == first or kept[0] >= room // 2
    assert kept[1] == last or kept[1] >= room // 2


@given(length=st.integers(33, 5_000), needed=st.integers(0, 6_000))
def test_a_reply_has_a_quarter_of_the_length_at_least_in_training_as_in_serving(length: int, needed: int) -> None:
    assert length // 4 <= reply_room(length, needed) <= length
    assert prompt_room(length, needed) + min(needed, length // 4) == length


def texts(chat: Chat, ids: list[int]) -> str:
    return str(chat.tokenizer.decode(ids))


def test_of_eighty_one_messages_as_many_are_kept_as_have_room(chat: Chat) -> None:
    messages = [{"role": ("user", "assistant")[n % 2], "content": "ok"} for n in range(81)]
    room = len(chat.prompt(messages[-27:], 10_000))
    fitted = chat.fit(messages, room)
    assert (len(fitted.ids), fitted.dropped) == (room, 54)


@fixture_is_constant
@given(
    messages=st.lists(st.tuples(st.sampled_from(["user", "assistant"]), st.text("ab ", min_size=1, max_size=60))),
    room=st.integers(30, 120),
)
def test_what_is_kept_fits_and_one_message_more_would_not(
    chat: Chat, messages: list[tuple[str, str]], room: int
) -> None:
    spoken: list[dict[str, Any]] = [{"role": role, "content": text} for role, text in messages if text.strip()]
    conversation = [SYSTEM, *spoken, *said("Where?")]
    fitted = chat.fit(conversation, room)
    kept = [SYSTEM, *conversation[1 + fitted.dropped :]]
    assert fitted.ids == chat.prompt(kept, 100_000)
    assert len(fitted.ids) <= room
    assert (fitted.system_cut, fitted.last_cut) == (False, False)
    if fitted.dropped:
        assert len(chat.prompt([SYSTEM, *conversation[fitted.dropped :]], 100_000)) > room


def test_an_over_long_message_is_cut_inside_its_markers(chat: Chat) -> None:
    fitted = chat.fit([SYSTEM, *said("older"), *said("a b c d e f g h i j k l m n o p q r s t u v w x y z " * 5)], 40)
    text = texts(chat, fitted.ids)
    assert len(fitted.ids) == 40
    assert text.startswith("<|system|>Be kind.<|end|><|user|>")
    assert text.endswith("y z <|end|><|assistant|>")
    assert (fitted.dropped, fitted.system_cut, fitted.last_cut) == (1, False, True)


def test_an_over_long_system_message_keeps_its_beginning_and_leaves_the_question_whole(chat: Chat) -> None:
    fitted = chat.fit([{"role": "system", "content": "Be kind. " * 50}, *said("Where is it?")], 40)
    text = texts(chat, fitted.ids)
    assert len(fitted.ids) == 40
    assert text.startswith("<|system|>Be kind. Be kind.")
    assert text.endswith("<|end|><|user|>Where is it?<|end|><|assistant|>")
    assert (fitted.system_cut, fitted.last_cut) == (True, False)


def test_where_the_markers_have_no_room_beside_a_question_the_system_message_goes(chat: Chat) -> None:
    fitted = chat.fit([SYSTEM, *said("Where is it?")], 5)
    assert texts(chat, fitted.ids).startswith("<|user|>")
    assert (fitted.system_cut, fitted.last_cut) == (True, True)


def test_what_fits_is_not_told_as_cut(chat: Chat) -> None:
    fitted = chat.fit([SYSTEM, *said("Where is it?")], 100)
    assert (fitted.dropped, fitted.system_cut, fitted.last_cut) == (0, False, False)
