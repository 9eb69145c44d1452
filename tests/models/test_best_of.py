from typing import Any, cast

import msgspec
import pytest

from models.best_of import Scored, best_and_worst, reward_pairs
from models.length_wish import length_trend
from models.reward import Calibration, RewardModel, Rewards
from models.sampling import Sampled
from models.settings import PolicySettings
from models.snapshot import SnapshotData
from tests.models.snapshots import pair, said, thumb, turn


def replies(*rewards_and_lengths: tuple[float, int]) -> list[Scored]:
    return [Scored(f"reply {n}", r, 0.0, length) for n, (r, length) in enumerate(rewards_and_lengths)]


def test_the_best_and_the_worst_sample_make_a_pair() -> None:
    found = best_and_worst(replies((0, 5), (2, 5), (-2, 5)), trend=0.0, slope=1.0)
    assert found is not None
    assert [s.reply for s in found[:2]] == ["reply 1", "reply 2"]
    assert found[2] == pytest.approx(0.982, abs=1e-3)


def test_a_reward_model_without_signal_makes_no_pairs() -> None:
    assert best_and_worst(replies((0, 5), (2, 5)), trend=0.0, slope=0.0) is None


def test_a_reward_that_only_follows_length_makes_no_pairs() -> None:
    group = replies((1, 10), (2, 20), (4, 40))
    trend = length_trend([group])
    assert trend == pytest.approx(0.1)
    assert best_and_worst(group, trend, slope=1.0) is None


def test_what_the_heads_disagree_on_is_not_chosen_as_best() -> None:
    group = [Scored("sure", 1.0, 0.1, 5), Scored("unsure", 1.2, 2.0, 5), Scored("bad", -3.0, 0.1, 5)]
    found = best_and_worst(group, trend=0.0, slope=1.0)
    assert found is not None
    assert [s.reply for s in found[:2]] == ["sure", "bad"]


def test_empty_and_equal_samples_make_no_pairs() -> None:
    assert best_and_worst([Scored(" ", -9, 0, 1), Scored("same", 0, 0, 1), Scored("same", 0, 0, 1)], 0.0, 1.0) is None


def test_complete_replies_are_compared_with_complete_ones_whatever_a_beginning_promises() -> None:
    group = [Scored("cut", 9.0, 0.0, 48, ended=False), Scored("good", 1.0, 0.0, 9), Scored("bad", -1.0, 0.0, 7)]
    found = best_and_worst(group, trend=0.0, slope=1.0)
    assert found is not None
    assert [s.reply for s in found[:2]] == ["good", "bad"]


def test_beginnings_are_compared_with_beginnings_where_complete_replies_give_no_pair() -> None:
    group = [Scored(f"cut {n}", n, 0.0, 48, ended=False) for n in range(3)]
    found = best_and_worst([*group, Scored("done", 9.0, 0.0, 7)], trend=0.0, slope=1.0)
    assert found is not None
    assert [s.reply for s in found[:2]] == ["cut 2", "cut 0"]
    assert best_and_worst([group[0], Scored("done", 9.0, 0.0, 7)], trend=0.0, slope=1.0) is None


class Judge(RewardModel):
    """Rewards a reply by the letter g in it, and by its length in tokens."""

    def __init__(self, chat: Any, by_length: float) -> None:
        super().__init__(None, chat, 96, Calibration(1.0, 0.0))
        self.by_length = by_length

    def score(self, rows: Any) -> Rewards:
        said = [reply for _, replies in rows for reply in replies]
        mean = [2.0 * ("g" in self.chat.decode(ids)) + self.by_length * len(ids) for ids in said]
        return Rewards(mean, [0.0] * len(mean))


def sampled(*replies: Sampled, prompts: int = 20) -> list[Any]:
    return [(turn(n, "train", said(f"question {n}"), "x"), list(replies)) for n in range(prompts)]


def rated(shorter: float, pairs: int = 60) -> SnapshotData:
    """Held-out picks of one of two replies: the short one with this probability, the one with a g in 7 of 8; train thumbs."""
    picks = [
        pair(n, "calibrate", said("a"), *(("b", "b " * 30) if n < shorter * pairs else ("b " * 30, "b")))
        for n in range(pairs)
    ]
    picks += [pair(n, "calibrate", said("a"), *(("g", "b") if n % 8 else ("b", "g"))) for n in range(pairs, 2 * pairs)]
    return SnapshotData("s", "", picks, [thumb(n, "train", said("a"), "b", True) for n in range(200)], [], [])


LONG, SHORT = Sampled("b " * 30, True), Sampled("b", True)


def per_token(chat: Any) -> float:
    """That makes three of the difference of the two."""
    return 3 / (len(chat.content(LONG.text)) - len(chat.content(SHORT.text)))


def test_a_wish_for_shorter_replies_that_people_confirm_is_taught(chat: Any) -> None:
    judge = Judge(chat, -per_token(chat))
    pairs, told = reward_pairs(sampled(LONG, SHORT), judge, PolicySettings(), rated(shorter=0.95))
    assert told.length_trend == pytest.approx(judge.by_length)
    assert told.confirmed > 0.7
    assert {(one.chosen, one.rejected) for one in pairs} == {(SHORT.text, LONG.text)}


@pytest.mark.parametrize("liking", [-1, 1])
def test_a_liking_for_a_length_that_people_do_not_share_is_taken_out(chat: Any, liking: int) -> None:
    judge = Judge(chat, liking * per_token(chat))
    pairs, told = reward_pairs(sampled(LONG, SHORT), judge, PolicySettings(), rated(shorter=0.5))
    assert told.confirmed < 0.15
    assert pairs == []


def test_without_labels_by_people_nothing_confirms_a_length(chat: Any) -> None:
    by_judge = msgspec.structs.replace(pair(0, "train", said("a"), "b", "c").provenance, source="judge")
    data = rated(shorter=0.95)
    judged = [msgspec.structs.replace(one, provenance=by_judge) for one in data.pairs]
    _, told = reward_pairs(
        sampled(LONG, SHORT), Judge(chat, -0.1), PolicySettings(), msgspec.structs.replace(data, pairs=judged)
    )
    assert told.confirmed == 0


def test_the_report_counts_what_was_cut_and_what_came_of_it(chat: Any) -> None:
    cut = [Sampled("g g", False), Sampled("b b", False)]
    pairs, told = reward_pairs(sampled(*cut, SHORT, prompts=3), Judge(chat, 0.0), PolicySettings(), rated(0.5))
    assert (told.samples, told.cut, told.pairs, told.pairs_cut) == (9, 6, 3, 3)
    assert not any(one.ended for one in pairs)


def test_together_they_weigh_at_most_half_of_the_labels(chat: Any) -> None:
    pairs, _ = reward_pairs(
        sampled(Sampled("g", True), SHORT, prompts=500), Judge(chat, 0.0), PolicySettings(), rated(shorter=0.5)
    )
    assert sum(one.weight for one in pairs) == pytest.approx(100)


def test_where_nothing_was_sampled_there_are_no_pairs_and_nobody_is_asked() -> None:
    pairs, told = reward_pairs([], cast(RewardModel, None), PolicySettings(best_of=0), rated(0.5))
    assert (pairs, told.samples) == ([], 0)
