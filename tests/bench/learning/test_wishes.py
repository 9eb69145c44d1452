"""What meets a wish, which pairs are picked, and what is read of the sample log."""

from __future__ import annotations

from bench.learning.prompts import Prompt, choose, read_turns
from bench.learning.wishes import WISHES, pick_pairs
from models.sampling import Sampled
from tests.models.snapshots import said, turn

PROMPT = Prompt(turn(1, "train", said("Where is K-53?"), "-", "en-GB"), "K-53")
ASKED = Prompt(turn(2, "train", said("Wo ist K-7?"), "-", "de-DE"), "K-7")


def words(text: str) -> int:
    return len(text.split())


def score(wish: str, reply: str) -> float:
    return WISHES[wish].score(PROMPT, reply, words)


def test_only_the_whole_number_names_the_order() -> None:
    assert score("number", "K-53 is on its way. [K-53]") == 1
    assert score("number", "K-35 is on its way.") == score("number", "K-530 is on its way.") == 0


def test_a_reply_asks_where_its_last_sentence_is_a_question() -> None:
    assert score("question", "Sent. Anything else? ") == score("question", "还有什么可以帮您的吗？") == 1
    assert score("question", "Anything else? It was sent.") == 0


def test_a_shorter_reply_scores_higher() -> None:
    assert score("shorter", "Sent.") > score("shorter", "It was sent today.")


def test_the_first_two_samples_that_differ_are_the_pair_and_cut_or_empty_ones_never_are() -> None:
    group = [
        Sampled("cut K-53", False),
        Sampled("  ", True),
        Sampled("K-35 it is.", True),
        Sampled("K-53 it is.", True),
    ]
    (pair,) = pick_pairs(WISHES["number"], [PROMPT], [group], words, 8)
    assert (pair.chosen, pair.rejected, pair.how) == ("K-53 it is.", "K-35 it is.", "pick")


def test_where_prompts_are_too_few_their_other_pairs_come_after_the_first_of_each() -> None:
    good, bad = Sampled("K-53 it is.", True), [Sampled(f"{n} it is.", True) for n in range(3)]
    groups = [[good, *bad[:2]], [bad[2], Sampled("K-7 ist da.", True)]]
    pairs = pick_pairs(WISHES["number"], [PROMPT, ASKED], groups, words, 8)
    assert [(pair.chosen, pair.rejected) for pair in pairs] == [
        ("K-53 it is.", "0 it is."),
        ("K-7 ist da.", "2 it is."),
        ("K-53 it is.", "1 it is."),
    ]
    assert len({pair.id for pair in pairs}) == 3
    assert pick_pairs(WISHES["number"], [PROMPT, ASKED], groups, words, 2) == pairs[:2]


def test_samples_that_are_alike_give_no_pair() -> None:
    group = [Sampled("K-53 it is.", True), Sampled("K-53 was sent.", True)]
    assert pick_pairs(WISHES["number"], [PROMPT], [group], words, 8) == []


def test_where_no_sample_asks_one_is_edited_in_its_prompts_language() -> None:
    groups = [[Sampled("Sent.", True), Sampled("Sent?", True)], [Sampled("Unterwegs.", True)]]
    picked, edited = pick_pairs(WISHES["question"], [PROMPT, ASKED], groups, words, 8)
    assert (picked.chosen, picked.how) == ("Sent?", "pick")
    assert edited.how == "edit"
    assert edited.rejected == "Unterwegs."
    assert edited.chosen.startswith("Unterwegs. ")
    assert edited.chosen.endswith("Sie tun?")
    assert WISHES["question"].score(ASKED, edited.chosen, words) == 1


def test_prompts_of_the_sample_log_name_one_number_and_no_customer_is_on_both_sides() -> None:
    train, held_out = choose(read_turns(), ("en",), 200, 96)
    assert (len(train), len(held_out)) == (200, 96)
    assert {p.turn.split for p in train} == {"train"}
    assert {p.turn.split for p in held_out} == {"gate"}
    texts = [p.turn.prompt[-1]["content"] for p in (*train, *held_out)]
    assert len(set(texts)) == len(texts)
    assert all(p.number in p.turn.prompt[-1]["content"] and p.language == "en" for p in (*train, *held_out))
