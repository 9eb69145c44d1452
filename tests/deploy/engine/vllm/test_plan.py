"""What a replica loads and unloads: slots are never overfilled, and what replies are by stays."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from deploy.engine.vllm.plan import ZERO, fit, plan

NAMES = st.sampled_from([f"tt-{letter}" for letter in "abcdef"])
LISTED = st.sets(NAMES | st.sampled_from(["base", "someone-elses", f"{ZERO}1"]))


@given(st.lists(NAMES, max_size=6), LISTED, st.sets(NAMES), st.sets(NAMES), st.integers(2, 6))
def test_slots_are_never_overfilled_and_only_what_is_ours_and_unused_goes(
    wanted: list[str], listed: set[str], proved: set[str], used: set[str], slots: int
) -> None:
    todo = plan(wanted, listed, proved & listed, used, slots)
    ours = {name for name in listed if name.startswith("tt-") and not name.startswith(ZERO)}
    after = (ours - set(todo.unload)) | set(todo.load)
    assert len(after) <= max(slots - 1, len(ours - set(todo.unload)))
    assert set(todo.unload) <= ours - used
    assert not set(todo.unload) & set(fit(wanted, slots)[0])
    assert not set(todo.load) & proved & listed
    assert set(todo.load) <= set(fit(wanted, slots)[0])


@given(st.lists(NAMES, max_size=6), st.sets(NAMES), st.integers(2, 6))
def test_what_has_a_slot_is_there_in_the_end(wanted: list[str], listed: set[str], slots: int) -> None:
    here, proved = set(listed), set[str]()
    for _ in range(3):  # a look after another
        todo = plan(wanted, here, proved, (), slots)
        here = (here - set(todo.unload)) | set(todo.load)
        proved |= set(todo.load)
    assert here == set(fit(wanted, slots)[0]) == proved & here
    assert plan(wanted, here, proved, (), slots).load == ()


def test_the_most_wanted_have_the_slots_and_one_is_the_bases() -> None:
    todo = plan(["tt-a", "tt-b", "tt-c"], [], [], [], 3)
    assert (todo.load, todo.too_many) == (("tt-a", "tt-b"), ("tt-c",))


def test_a_reply_keeps_its_adapters_slot_from_the_next_one() -> None:
    assert plan(["tt-b"], ["tt-a"], ["tt-a"], ["tt-a"], 2).load == ()
    assert plan(["tt-b"], ["tt-a"], ["tt-a"], [], 2).load == ("tt-b",)
