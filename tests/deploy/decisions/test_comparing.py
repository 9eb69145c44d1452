"""A training's samples become blind comparisons, and what is said of them decides."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from deploy.control.store import Control
from deploy.decisions.operations import Operations
from deploy.errors import Refused
from deploy.rules.comparing import JUDGE, Comparison, ComparisonLabel
from deploy.serving_settings import ShadowSettings
from deploy.settings import ApproveSettings, CompareSettings, Settings
from feedback.settings import JudgeSettings
from tests.deploy.candidates import make_candidate
from tests.deploy.decisions.approving import approve
from tests.deploy.decisions.people import commit, turn_of
from tests.deploy.pairs import sample, stored
from tests.fakes import ManualClock
from tests.models.snapshots import said, seal, thumb, turn

JUDGED = Settings(judge=JudgeSettings(base_url="http://127.0.0.1:9/v1", model="m", free=True))
DAY_S = 86_400


def trained(folder: Path, samples: list[Any], name: str = "s-1", seed: int = 0, learned: int = 5) -> str:
    """A candidate with these samples; its snapshot has turns of its own."""
    if not (folder.parent / "snapshots" / name).exists():
        records = [thumb(9_000 + n, "train", said("where?"), "here", True) for n in range(learned)]
        seal(folder.parent / "snapshots" / name, [*records, turn(9_100, "gate", said("how?"), "so")])
    return make_candidate(folder, seed, samples=samples, snapshot=name)


def label_all(
    control: Control, digest: str, preference: float, at_us: int, labeller: str = "anna", first: int = 0
) -> None:
    said_of = [ComparisonLabel(one.id, labeller, preference, at_us, {}) for one in stored(control, digest)[first:]]
    control.comparisons.label(said_of)


def test_each_sample_becomes_a_pair_that_a_person_is_asked_about_where_there_is_no_judge(
    rules: Operations, clock: ManualClock, folder: Path
) -> None:
    digest = trained(folder, [sample(n) for n in range(3)])
    rules.register(digest)
    pairs = stored(rules.control, digest)
    assert [one.turn_id for one in pairs] == ["t-0000", "t-0001", "t-0002"]
    first = replace(pairs[0], people=0)
    assert first == Comparison(
        digest, None, "offline", "default", "c-0000", "t-0000", "c-0000", "en",
        [{"role": "user", "content": "question 0"}], "the candidate's 0", "the incumbent's 0", 0, 1.0, clock.now_us(),
        clock.now_us() + CompareSettings().expires_s * 1_000_000,
    )  # fmt: skip
    assert all(one.people >= 1 for one in pairs)
    assert rules.show(digest)["gate"]["reasons"] == [
        "blind comparisons: 0 of 3 pairs count, E 1 of 25 that it takes, 3 wait for people (`trimtab label`): hold"
    ]


def test_a_user_is_compared_once_and_a_turn_that_the_facts_do_not_know_by_its_conversation(
    rules: Operations, clock: ManualClock, folder: Path
) -> None:
    served = [turn_of("anna", 1, f"c-{n:04d}", turn_id=f"t-{n:04d}") for n in range(2)]
    commit(folder.parent / "facts", [*served, turn_of("bob", 1, "c-0002", turn_id="t-0002")])
    digest = trained(folder, [sample(n) for n in range(4)] + [sample(5, "c-0003")])
    rules.register(digest)
    assert [one.unit for one in stored(rules.control, digest)] == ["anna", "bob", "c-0003"]


def test_identical_replies_are_kept_as_a_tie_and_nobody_is_asked(rules: Operations, folder: Path) -> None:
    digest = trained(folder, [sample(1, candidate="It is here.", incumbent=" It is  here.\n"), sample(2)])
    rules.register(digest)
    same, other = stored(rules.control, digest)
    assert (same.identical, same.people, same.probability) == (True, 0, 1.0)
    assert other.people >= 1


def test_where_there_is_a_judge_a_share_of_the_pairs_goes_to_people_and_some_to_two(
    control: Control, clock: ManualClock, folder: Path
) -> None:
    rules = Operations(control, lambda: JUDGED, folder, clock)
    digest = trained(folder, [sample(n) for n in range(400)])
    rules.register(digest)
    pairs = stored(control, digest)
    asked = sum(one.people > 0 for one in pairs)
    assert {one.probability for one in pairs} == {0.2}
    assert 40 < asked < 120, "a fifth of 400, within five standard deviations"
    assert sum(one.people == 2 for one in pairs) < asked / 2


def test_registering_again_draws_nothing_anew(control: Control, clock: ManualClock, folder: Path) -> None:
    rules = Operations(control, lambda: JUDGED, folder, clock)
    digest = trained(folder, [sample(n) for n in range(60)])
    rules.register(digest)
    before = stored(control, digest)
    clock.set_forward(60)
    rules.register(digest)
    rules.discover()
    assert stored(control, digest) == before


def test_a_kill_in_the_middle_of_registering_leaves_nothing_behind(
    rules: Operations, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = trained(folder, [sample(n) for n in range(3)])
    with monkeypatch.context() as killed:
        killed.setattr(
            "deploy.decisions.evidence.EvidenceRoom.seal", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)
        )
        with pytest.raises(KeyboardInterrupt):
            rules.register(digest)
    assert (rules.candidates(), stored(rules.control, digest)) == ([], [])
    rules.register(digest)
    assert len(stored(rules.control, digest)) == 3


@pytest.mark.parametrize(
    "broken",
    [None, "no list", [3], [{"candidate": "a"}], [sample(1, turn=None)], [sample(1, candidate="\ud83d")], [sample(1, turn=["t", "c"])]],
)  # fmt: skip
def test_samples_that_can_not_be_compared_are_no_pairs_and_the_candidate_is_registered(
    rules: Operations, folder: Path, broken: Any
) -> None:
    digest = trained(folder, broken)
    assert rules.register(digest)["state"] == "held"
    assert stored(rules.control, digest) == []


def test_a_reply_with_a_character_that_no_database_takes_is_compared_without_it(
    control: Control, rules: Operations, folder: Path
) -> None:
    digest = trained(folder, [sample(1, candidate="a\0b")])
    rules.register(digest)
    assert stored(control, digest)[0].candidate_reply == "a\ufffdb"


def test_what_people_prefer_passes_at_the_controllers_next_look_and_can_be_approved(
    rules: Operations, clock: ManualClock, folder: Path
) -> None:
    digest = trained(folder, [sample(n) for n in range(32)])
    rules.register(digest)
    rules.recount()
    assert rules.candidates()[0]["state"] == "held"
    label_all(rules.control, digest, 1.0, clock.now_us(), "anna")
    label_all(rules.control, digest, 1.0, clock.now_us(), "bob")
    rules.recount()
    (view,) = rules.candidates()
    assert (view["state"], view["gate"]["codes"]) == ("passed", ["wins"])
    assert approve(rules, digest)["state"] == "approved"


def test_what_to_type_next_is_what_brings_more_comparisons_while_anything_does(
    control: Control, clock: ManualClock, folder: Path
) -> None:
    shared, alone = Settings(), Settings(shadow=ShadowSettings(share=0))
    rules, without = (Operations(control, lambda given=given: given, folder, clock) for given in (shared, alone))  # type: ignore[misc]
    digest = trained(folder, [sample(n) for n in range(4)])
    rules.register(digest)
    name, following = digest[:12], lambda: rules.show(digest)["next"]
    assert following() == f"trimtab label: 4 pairs wait for people (then trimtab show {name})"
    for labeller in ("anna", "bob"):
        label_all(control, digest, 0.5, clock.now_us(), labeller)
    assert following().startswith(f'trimtab shadow start {name} --reason "…"')
    rules.start_shadow(digest, reason="more pairs", actor="ada")
    assert following().startswith("nothing: it answers a copy of live turns")
    rules.stop_shadow(reason="enough", actor="ada")
    assert following().startswith("trimtab shadow start")
    assert "--override-hold" in without.show(digest)["next"]
    rules.object(digest, reason="it lies", actor="eve")
    assert following().startswith(f"trimtab object {name} --withdraw")


def test_what_people_like_less_is_rejected_and_nobody_can_approve_it(
    rules: Operations, clock: ManualClock, folder: Path
) -> None:
    digest = trained(folder, [sample(n) for n in range(32)])
    rules.register(digest)
    for labeller in ("anna", "bob"):
        label_all(rules.control, digest, 0.0, clock.now_us(), labeller)
    rules.recount()
    assert rules.candidates()[0]["state"] == "rejected"
    with pytest.raises(Refused, match=r"nobody can approve it: blind comparisons: win rate 0\.00"):
        approve(rules, digest, override_hold=True)


def test_a_label_that_moves_figures_alone_seals_nothing_anew_until_somebody_looks(
    rules: Operations, clock: ManualClock, folder: Path
) -> None:
    digest = trained(folder, [sample(n) for n in range(32)])
    seal_before = rules.register(digest)["evidence"]
    first = stored(rules.control, digest)[0]
    for labeller in ("anna", "bob"):
        rules.control.comparisons.label([ComparisonLabel(first.id, labeller, 1.0, clock.now_us(), {})])
    rules.recount()
    assert rules.candidates()[0]["evidence"] == seal_before
    assert rules.show(digest)["evidence"] != seal_before


def test_where_nobody_wants_to_be_asked_what_passes_later_is_approved_by_the_rule_unless_somebody_objects(
    control: Control, clock: ManualClock, folder: Path
) -> None:
    rules = Operations(control, lambda: Settings(approve=ApproveSettings(before=())), folder, clock)
    one, other = (trained(folder, [sample(n) for n in range(32)], seed=seed) for seed in (1, 2))
    for digest in (one, other):
        rules.register(digest)
        for labeller in ("anna", "bob"):
            label_all(control, digest, 1.0, clock.now_us(), labeller)
    rules.object(other, reason="it lies", actor="eve")
    rules.recount()
    assert rules.show(one)["state"] == "approved"
    rules.rollback(actor="ada")
    rules.recount()
    assert rules.show(other)["state"] == "passed"


def test_labels_that_are_late_are_ties(control: Control, clock: ManualClock, folder: Path) -> None:
    settings = Settings(compare=CompareSettings(expires_s=3 * DAY_S))
    rules = Operations(control, lambda: settings, folder, clock)
    digest = trained(folder, [sample(n) for n in range(32)])
    rules.register(digest)
    clock.set_forward(3 * DAY_S + 1)
    label_all(control, digest, 1.0, clock.now_us())
    assert "win rate 0.50 by people on 32, 32 of 32 pairs count, E 1 of 25" in rules.show(digest)["gate"]["reasons"][0]


@pytest.mark.parametrize("labeller", ["anna", JUDGE])
@pytest.mark.parametrize("split", ["train", "calibrate"])
def test_a_label_whose_turn_trained_is_refused_by_name(
    rules: Operations, clock: ManualClock, folder: Path, split: Any, labeller: str
) -> None:
    seal(
        folder.parent / "snapshots" / "s-1",
        [thumb(7, split, said("where?"), "here", True), turn(8, "gate", said("a"), "b")],
    )
    digest = trained(folder, [sample(7), sample(8)])
    rules.register(digest)
    assert rules.show(digest)["gate"]["codes"] == ["too_few_comparisons"], "nothing was labelled yet"
    label_all(rules.control, digest, 1.0, clock.now_us(), labeller)
    rules.recount()
    (view,) = rules.candidates()
    assert view["state"] == "rejected"
    assert view["gate"]["reasons"][0] == (
        "leaked labels: it was trained on 1 of the turns that people or the judge compared (default/c-0007/t-0007)"
    )


def test_a_turn_that_was_served_in_the_train_split_leaks_too(
    rules: Operations, clock: ManualClock, folder: Path
) -> None:
    seal(folder.parent / "snapshots" / "s-1", [turn(7, "train", said("where?"), "here")])
    digest = trained(folder, [sample(7)])
    rules.register(digest)
    label_all(rules.control, digest, 1.0, clock.now_us())
    assert "leaked_labels" in rules.show(digest)["gate"]["codes"]


@pytest.mark.parametrize("name", ["gone", "../elsewhere", ".."])
def test_where_the_snapshot_can_not_be_read_a_labelled_candidate_is_held(
    rules: Operations, clock: ManualClock, folder: Path, name: str
) -> None:
    digest = make_candidate(folder, samples=[sample(n) for n in range(32)], snapshot=name)
    rules.register(digest)
    for labeller in ("anna", "bob"):
        label_all(rules.control, digest, 1.0, clock.now_us(), labeller)
    view = rules.show(digest)
    assert (view["state"], view["gate"]["codes"]) == ("held", ["lineage_unknown"])


def test_a_snapshot_is_read_once_and_not_at_every_look(
    rules: Operations, clock: ManualClock, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []
    from deploy.decisions import comparing

    real = comparing.learned_turns
    monkeypatch.setattr(comparing, "learned_turns", lambda path: read.append(path) or real(path))
    digest = trained(folder, [sample(n) for n in range(3)])
    rules.register(digest)
    assert read == [], "nothing is labelled"
    for n in range(3):
        label_all(rules.control, digest, 1.0, clock.now_us(), f"person {n}")
        rules.recount()
        rules.show(digest)
    assert len(read) == 1
