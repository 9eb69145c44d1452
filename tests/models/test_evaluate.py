"""What a report says: of the gate split only, and of either policy what that policy does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from feedback.records import Provenance, Split
from models import evaluate
from models.bases import Base
from models.evaluate import (
    Sample,
    Wanted,
    describe_by_prompt,
    describe_samples,
    judge_reward,
    load_policies,
    sample_both,
    wanted_length,
)
from models.policy import with_policy_lora
from models.reward import Calibration, RewardModel, Rewards
from models.settings import PolicySettings
from models.snapshot import SnapshotData
from tests.models.conftest import TINY
from tests.models.snapshots import pair, said, thumb, turn

GOOD, BAD = "a reply that is long", "short"


class LikesLength(RewardModel):
    """Rewards a reply by its tokens, and finds eight of them just good enough."""

    def __init__(self, chat: Any) -> None:
        super().__init__(None, chat, 96, Calibration(1.0, -8.0))

    def score(self, rows: Any) -> Rewards:
        mean = [float(len(reply)) for _, replies in rows for reply in replies]
        return Rewards(mean, [0.0] * len(mean))


def data(*, pairs: Any = (), labels: Any = ()) -> SnapshotData:
    return SnapshotData("s", "sha256:0", list(pairs), list(labels), [], [])


def pairs_of(split: Split, right: int, wrong: int = 0, level: int = 0) -> list[Any]:
    """Gate pairs that a lover of length gets right, wrong, and cannot tell."""
    texts = [(GOOD, BAD)] * right + [(BAD, GOOD)] * wrong + [(BAD, BAD)] * level
    return [pair(n, split, said("a"), chosen, rejected) for n, (chosen, rejected) in enumerate(texts)]


def test_the_reward_model_is_judged_on_pairs_where_a_tie_is_half_right(chat: Any) -> None:
    found = judge_reward(LikesLength(chat), data(pairs=pairs_of("gate", right=15, wrong=3, level=2)))
    assert (found.metric, found.holdout, found.accuracy, found.majority_baseline) == ("pairs", 20, 0.8, 0.5)
    assert found.interval[0] < 0.8 < found.interval[1]
    assert found.length_correlation == pytest.approx(1.0)


def test_it_is_judged_by_the_gate_split_alone(chat: Any) -> None:
    others = [*pairs_of("train", right=0, wrong=30), *pairs_of("calibrate", right=0, wrong=30)]
    found = judge_reward(LikesLength(chat), data(pairs=[*others, *pairs_of("gate", right=20)]))
    assert (found.holdout, found.accuracy) == (20, 1.0)


def test_where_pairs_are_few_it_is_judged_on_thumbs_against_the_majority(chat: Any) -> None:
    thumbs = [thumb(n, "gate", said("a"), GOOD, True) for n in range(6)]
    thumbs += [thumb(n, "gate", said("a"), BAD, n == 6) for n in range(6, 10)]
    thumbs += [thumb(n, "train", said("a"), BAD, True) for n in range(10, 20)]
    found = judge_reward(LikesLength(chat), data(pairs=pairs_of("gate", right=9), labels=thumbs))
    assert (found.metric, found.holdout, found.accuracy) == ("thumbs", 10, 0.9)
    assert found.majority_baseline == pytest.approx(0.7)


def test_few_gate_labels_are_said_to_be_few_whatever_their_kind(chat: Any) -> None:
    thumbs = [thumb(n, "gate", said("a"), GOOD, n > 1) for n in range(5)]
    on_thumbs = judge_reward(LikesLength(chat), data(labels=thumbs))
    assert (
        on_thumbs.few == "5 gate labels (thumbs) are few, 20 are wanted: the reward model's figures on them are a guess"
    )
    on_pairs = judge_reward(LikesLength(chat), data(pairs=pairs_of("gate", right=7), labels=thumbs))
    assert (on_pairs.metric, on_pairs.holdout) == ("pairs", 7)
    assert (on_pairs.few or "").startswith("7 gate labels (pairs) are few")
    assert judge_reward(LikesLength(chat), data(pairs=pairs_of("gate", right=20))).few is None


def test_gate_thumbs_of_one_kind_are_said_to_tell_nothing(chat: Any) -> None:
    thumbs = [thumb(n, "gate", said("a"), GOOD, True) for n in range(30)]
    few = judge_reward(LikesLength(chat), data(labels=thumbs)).few
    assert few == "all 30 gate thumbs are of one kind: whether the reward model tells good from bad can't be told"


def test_with_nothing_to_be_judged_on_nothing_is_claimed(chat: Any) -> None:
    found = judge_reward(LikesLength(chat), data(pairs=pairs_of("train", right=30)))
    assert (found.accuracy, found.holdout, found.majority_baseline, found.calibration_error) == (None, 0, None, None)
    assert found.interval == (0.0, 1.0)


def test_figures_are_told_apart_for_prompts_that_train_has_seen_and_has_not(chat: Any) -> None:
    common, rare = said("Where is my parcel now?"), said("Which of the two lamps is the brighter one?")
    pairs = [pair(n, "gate", common, *((GOOD, BAD) if n < 22 else (BAD, GOOD))) for n in range(24)]
    pairs += [pair(n, "gate", rare, BAD, GOOD) for n in range(24, 27)]
    pairs.append(pair(27, "train", said("where is MY parcel now"), GOOD, BAD))
    found = judge_reward(LikesLength(chat), data(pairs=pairs))
    assert (found.seen.holdout, found.unseen.holdout, found.holdout) == (24, 3, 27)
    assert found.seen.accuracy == pytest.approx(22 / 24)
    assert found.seen.interval[0] < 22 / 24 < found.seen.interval[1]
    assert (found.unseen.accuracy, found.seen.few) == (0.0, None)
    assert found.unseen.few == "3 gate labels are of prompts that train has not seen: 20 are wanted to tell anything"


def test_samples_are_described_for_seen_and_for_unseen_prompts(chat: Any) -> None:
    asked = [said("Where is it?"), said("Where is it?"), said("Who are you then?")]
    both = [Sample(prompt, "en", "a " * (n + 1), "b") for n, prompt in enumerate(asked)]
    found = describe_by_prompt(chat, both, lambda prompt: prompt == asked[0])
    assert [found[kind]["candidate"].count for kind in ("seen", "unseen")] == [2, 1]
    seen, unseen = found["seen"]["candidate"], found["unseen"]["candidate"]
    assert seen.mean_interval is not None
    assert seen.mean_interval[0] < (seen.mean_tokens or 0) < seen.mean_interval[1]
    assert unseen.mean_interval is None, "of one nothing is known"


def samples(*replies: tuple[str, str]) -> list[Sample]:
    return [Sample(said("Where is the parcel that I ordered?"), "en", ours, theirs) for ours, theirs in replies]


def test_each_side_is_described_by_its_own_replies(chat: Any) -> None:
    english, german = "It is on its way and will arrive tomorrow.", "Guten Tag, wie kann ich Ihnen heute helfen?"
    both = samples((english, "ja " * 20), (german, "ja " * 20))
    ours, theirs = (describe_samples(chat, both, side) for side in ("candidate", "incumbent"))
    assert ours.language_match == 0.5
    assert (ours.repetition or 0) < 0.1 < 0.8 < (theirs.repetition or 0)
    assert ours.mean_tokens == (len(chat.content(english)) + len(chat.content(german))) / 2


def test_of_samples_that_were_cut_the_mean_is_a_lower_bound_and_the_median_is_known_while_they_are_few(
    chat: Any,
) -> None:
    def side(*replies: tuple[str, bool]) -> Any:
        asked = said("Where is it?")
        both = [Sample(asked, "en", text, "x", candidate_ended=ended) for text, ended in replies]
        return describe_samples(chat, both, "candidate")

    a, b, c = "a", "a b c d", "a b c d e f g h"
    found = side((a, True), (b, True), (a, False))
    assert (found.count, found.cut) == (3, 1)
    assert found.median_tokens == len(chat.content(b))
    assert side((a, True), (c, False), (b, False)).median_tokens == len(chat.content(b))
    assert describe_samples(chat, [Sample(said("Hi"), "en", a, b)], "incumbent").cut == 0


def test_of_no_samples_and_of_languages_that_nobody_can_tell_nothing_is_said(chat: Any) -> None:
    none = describe_samples(chat, [], "candidate")
    assert (none.mean_tokens, none.repetition, none.language_match) == (None, None, None)
    assert describe_samples(chat, samples(("ok", "ok")), "candidate").language_match is None


@pytest.fixture(scope="module")
def base(chat: Any, tmp_path_factory: pytest.TempPathFactory) -> Base:
    """An untrained base on disk, which is sure of what it says: so another adapter shows in a few tokens."""
    from models.tiny import fresh_model

    path = tmp_path_factory.mktemp("base")
    model = fresh_model(chat.tokenizer, TINY, 96)
    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(20)
    model.save_pretrained(path)
    return Base(str(path), "tiny-0123456789ab", "r1", "0" * 64, "1" * 64)


@pytest.fixture(scope="module")
def adapters(base: Base, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two candidates' directories, whose adapters change what the base says."""
    from models.loading import load_causal

    found = [tmp_path_factory.mktemp("candidate") for _ in range(2)]
    for seed, path in enumerate(found):
        model = with_policy_lora(load_causal(base.path), PolicySettings(lora_rank=4, seed=seed))
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if "lora_B" in name:
                    weight.normal_(std=0.5)
        model.save_pretrained(path / "adapter")
    return found


TURNS = [turn(n, "gate" if n % 2 else "train", said(f"question {n}"), f"reply {n}") for n in range(6)]


def answers(
    base: Base, chat: Any, candidate: Path, incumbent: Path | None, seed: int = 1, turns: Any = TURNS
) -> tuple[list[str], list[str]]:
    """Both sides' replies."""
    model = load_policies(base, candidate / "adapter", incumbent)
    both = sample_both(model, chat, turns, 96, 6, seed, lambda step, of: None)
    return [one.candidate for one in both], [one.incumbent for one in both]


def test_either_side_is_answered_by_its_own_adapter_and_without_an_incumbent_by_the_base(
    base: Base, chat: Any, adapters: list[Path]
) -> None:
    one, other = adapters
    first, bare = answers(base, chat, one, None)
    assert len(first) == 3
    assert answers(base, chat, one, other)[0] == first
    assert answers(base, chat, other, one)[1] == first
    assert answers(base, chat, one, one) == (first, first)
    second, bare_again = answers(base, chat, other, None)
    assert bare_again == bare
    assert len({tuple(first), tuple(second), tuple(bare)}) == 3


def test_more_prompts_than_go_at_once_are_asked_in_batches_and_another_seed_asks_anew(
    base: Base, chat: Any, adapters: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    reports: list[tuple[int, int]] = []
    monkeypatch.setattr(evaluate, "PROMPTS_AT_ONCE", 8)
    turns = [turn(n, "gate", said("x" * (n + 1)), "reply") for n in range(9)]
    model = load_policies(base, adapters[0] / "adapter", None)
    both = sample_both(model, chat, turns, 96, 4, 1, lambda step, of: reports.append((step, of)))
    assert len(both) == 9
    asked = {(one.tenant, one.conversation_id, one.turn_id): one.prompt for one in turns}
    assert {one.turn: one.prompt for one in both} == asked, "each says whose prompt it is"
    assert reports == [(1, 2), (2, 2)]
    assert answers(base, chat, adapters[0], None, seed=2)[0] != answers(base, chat, adapters[0], None, seed=1)[0]


def test_the_length_that_people_wanted_is_that_of_their_gate_labels(chat: Any) -> None:
    long = "much " * 40
    judged = msgspec.structs.replace(
        thumb(7, "gate", said("a"), long, True), provenance=Provenance(source="judge", event_ids=("e",), at_us=1)
    )
    thumbs = [
        thumb(1, "gate", said("a"), GOOD, True),
        thumb(2, "gate", said("a"), long, False),
        thumb(3, "train", said("a"), long, True),
        judged,
    ]
    wanted = wanted_length(chat, data(pairs=[pair(4, "gate", said("a"), GOOD, long)], labels=thumbs))
    assert wanted == Wanted(2, len(chat.content(GOOD)))
    assert wanted_length(chat, data()) == Wanted(0, None)
