from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.chat import Chat
from models.text_stream import TextStream

fixture_is_constant = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def stream(chat: Chat, text: str, stop: tuple[str, ...] = ()) -> list[str]:
    """The pieces of `text`, token by token."""
    out = TextStream(chat, stop)
    return [*(out.push(token) for token in chat.content(text)), out.flush()]


@fixture_is_constant
@given(text=st.text(max_size=50))
def test_the_pieces_make_up_the_text(chat: Chat, text: str) -> None:
    assert "".join(stream(chat, text)) == text.rstrip("\ufffd")


@fixture_is_constant
@given(
    text=st.text(alphabet="ab\n日🙂", max_size=30), stop=st.lists(st.text("ab\n日", min_size=1, max_size=4), max_size=3)
)
def test_nothing_from_a_stop_string_on_is_shown(chat: Chat, text: str, stop: list[str]) -> None:
    ends = [at for s in stop if (at := text.find(s)) >= 0]
    shown = "".join(stream(chat, text, tuple(stop)))
    assert not any(s in shown for s in stop)
    if not ends:
        assert shown == text
    else:
        assert text.startswith(shown)


def test_a_character_of_several_tokens_is_shown_whole(chat: Chat) -> None:
    assert len(chat.content("🙂")) > 1
    assert [piece for piece in stream(chat, "🙂") if piece] == ["🙂"]


def test_bytes_that_never_become_a_character_are_dropped(chat: Chat) -> None:
    out = TextStream(chat)
    pieces = [out.push(token) for token in chat.content("ok🙂")[:-1]]
    assert "".join([*pieces, out.flush()]) == "ok"


def test_a_stop_string_over_several_tokens_does_not_leak_its_beginning(chat: Chat) -> None:
    out = TextStream(chat, ("STOP",))
    pieces = [out.push(token) for token in chat.content("go S")]
    assert "".join(pieces) == "go "
    assert "".join(out.push(token) for token in chat.content("TOP now")) == ""
    assert out.stopped


def test_a_stop_string_that_begins_within_itself_is_found(chat: Chat) -> None:
    assert "".join(stream(chat, "x aabaabaac y", ("aabaac",))) == "x aab"


def test_of_two_stop_strings_that_end_together_the_longer_is_not_shown(chat: Chat) -> None:
    assert "".join(stream(chat, "go STOP", ("OP", "STOP"))) == "go "


def test_bytes_that_are_no_text_cost_no_more_than_text_and_hide_nothing_that_follows(chat: Chat) -> None:
    broken = chat.content("🙂")[:1]
    costs = []
    for length in (200, 800):
        decoded: list[int] = []
        counting = Chat(chat.tokenizer)
        counting.decode = lambda ids, seen=decoded: seen.append(len(ids)) or chat.decode(ids)  # type: ignore[method-assign,misc]
        out = TextStream(counting)
        ids = [*(broken * length), *chat.content(" but this is text")]
        pieces = "".join([*(out.push(token) for token in ids), out.flush()])
        assert pieces == chat.decode(ids)
        costs.append(sum(decoded))
    assert costs[1] <= 6 * costs[0]  # in proportion: 4, with the square: 16
