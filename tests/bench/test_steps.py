"""Training steps beside each other: who is compared with whom, and what is no comparison."""

from __future__ import annotations

from bench.peers.steps import OURS, Row, Side, Step, compare, differing, fixed, table, tokens_of, varied

SHAPE = fixed(2, 5, 3)
ROUNDS = 3


def rows(seed: int) -> list[Row]:
    return SHAPE.rows(100, seed)


def side(step: Step) -> Side:
    return Side(None, step)


def test_a_prompt_counts_once_for_each_reply() -> None:
    assert tokens_of(rows(0)) == 2 * 2 * (5 + 3)


def test_a_seed_gives_the_same_batch_and_another_another() -> None:
    shape = varied(4, (1, 9), (1, 9))
    assert shape.rows(100, 7) == shape.rows(100, 7) != shape.rows(100, 8)


def test_every_side_sees_the_same_batches_and_each_is_first_in_turn() -> None:
    steps: list[tuple[str, Row]] = []

    def noting(name: str) -> Side:
        def step(batch: object) -> float:
            steps.append((name, batch[0]))  # type: ignore[index]
            return 1.0

        return side(step)

    figures = compare({OURS: lambda: noting(OURS), "TRL": lambda: noting("TRL")}, rows, ROUNDS, lambda _: None)
    ours, theirs = ([batch for name, batch in steps if name == who] for who in (OURS, "TRL"))
    assert ours == theirs
    assert [name for name, _ in steps[-4:]] in ([OURS, "TRL", "TRL", OURS], ["TRL", OURS, OURS, "TRL"])
    assert figures["TRL"]["rounds"] == ROUNDS
    assert not differing({"DPO": figures}, 1e-9)


def test_losses_that_differ_are_no_comparison_and_named() -> None:
    figures = compare(
        {OURS: lambda: side(lambda _: 2.0), "TRL": lambda: side(lambda _: 2.2)}, rows, ROUNDS, lambda _: None
    )
    (said,) = differing({"DPO": figures}, 0.05)
    assert "DPO" in said
    assert "TRL" in said
    assert not differing({"DPO": figures}, 0.2)


def test_a_side_that_learned_nothing_but_nan_is_no_comparison() -> None:
    figures = compare(
        {OURS: lambda: side(lambda _: 2.0), "TRL": lambda: side(lambda _: float("nan"))}, rows, ROUNDS, lambda _: None
    )
    assert differing({"DPO": figures}, 1.0)


def test_a_side_that_fails_has_its_error_and_the_others_go_on() -> None:
    def fails(_: object) -> float:
        raise RuntimeError("out of memory")

    told: list[str] = []
    figures = compare({OURS: lambda: side(lambda _: 2.0), "TRL": lambda: side(fails)}, rows, ROUNDS, told.append)
    assert figures["TRL"] == {"error": "RuntimeError: out of memory"}
    assert figures[OURS]["rounds"] == ROUNDS
    assert any("out of memory" in line for line in told)
    assert "out of memory" in table({"DPO": figures})


def test_when_time_is_over_what_was_measured_is_kept() -> None:
    figures = compare({OURS: lambda: side(lambda _: 2.0)}, rows, 100, lambda _: None, lambda: True)
    assert figures[OURS]["rounds"] == 1
