import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feedback.thoughts import answer_of

THOUGHT = {
    "at the beginning": ("<think>hm</think>\n\nNo.", "No."),
    "of several lines": ("<think>\na\nb\n</think>\nNo.", "No."),
    "behind white space": ("\n \u200b<think>hm</think>No.", "No."),
    "capitals": ("<THINK>hm</Think>No.", "No."),
    "thinking": ("<thinking>hm</thinking> No.", "No."),
    "reasoning": ("<reasoning>hm</reasoning>No.", "No."),
    "with attributes": ('<think time="3">hm</think>No.', "No."),
    "empty": ("<think>\n\n</think>\n\nNo.", "No."),
    "in brackets": ("[THINK]hm[/THINK]No.", "No."),
    "in open webui": (
        '<details type="reasoning" done="true" duration="3">\n<summary>Thought</summary>\n> hm\n</details>\nNo.',
        "No.",
    ),
    "two": ("<think>a</think>\n<think>b</think>No.", "No."),
    "again on a later line": ("<think>a</think>Let me see.\n<think>b</think>\nNo.", "Let me see.\n\nNo."),
    "that speaks of its tag": ("<think>a <think> b</think> c</think>No.", "No."),
    "opened by the template": ("hm, hours.\n</think>\n\nNo.", "No."),
    "unclosed": ("<think>hm", ""),
    "unclosed later": ("<think>a</think>Wait.\n<think>hm", ""),
    "alone": ("<think>hm</think>", ""),
    "alone, opened by the template": ("hm</think>\n", ""),
}


@pytest.mark.parametrize(("text", "answer"), THOUGHT.values(), ids=THOUGHT.keys())
def test_a_thought_is_no_part_of_the_answer(text: str, answer: str) -> None:
    assert answer_of(text) == answer


@pytest.mark.parametrize(
    "text",
    [
        "No.",
        "  No. ",
        "Write <think> where it begins and </think> where it ends.",
        "It ends with `</think>`.",
        'Search for "</think>" there.',
        "a < b, c > d",
        "<b>bold</b>",
        "<thinker>x</thinker>",
        "<details>\n<summary>More</summary>\n</details>\nNo.",
        "[email] and [THINKING]",
    ],
)
def test_what_is_no_thought_stays_as_it_is(text: str) -> None:
    assert answer_of(text) == text


PIECES = st.lists(
    st.sampled_from(["<think>", "</think>", "<THINKING>", "</thinking>", "[THINK]", "[/THINK]", "<details type='reasoning'>", "</details>",
                     "a", " ", "\n", "`", "<", "\u200b"])
)  # fmt: skip


@settings(max_examples=100)
@given(PIECES)
def test_an_answer_is_made_of_pieces_of_the_text_and_holds_no_thought(pieces: list[str]) -> None:
    text = "".join(pieces)
    rest = iter(text)
    assert all(character in rest for character in answer_of(text))  # in order
    assert answer_of(answer_of(text)) == answer_of(text)


@settings(max_examples=100)
@given(st.text(alphabet="ab <>/\n"), st.text(alphabet="ab ").map(str.lstrip))
def test_whatever_is_thought_the_answer_behind_it_is_found(thought: str, answer: str) -> None:
    assert answer_of(f"<think>{thought}</think>{answer}") == answer
    assert answer_of(f"{thought}</think>{answer}") == answer


def test_a_text_of_nothing_but_tags_takes_no_longer_than_its_length() -> None:
    for tags in ("<think></think>", "<think>", "</think>", "<think>\n", "<details type=reasoning"):
        assert answer_of(tags * 100_000) in ("", tags * 100_000)  # a minute and more, were it quadratic
