"""The state directory: private, versioned, each role played once; what is wrong with it is one sentence."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from unittest.mock import patch

import pytest
from structlog.testing import capture_logs

from deploy.control.store import open_control
from deploy.errors import Failed, Refused
from deploy.state import find_state, open_state
from deploy.training.train import ABANDONED_S
from tests.deploy.commands import FORKED, SAMPLE, answer, trimtab, typed_in


def test_nobody_else_may_look_into_it_and_git_leaves_it_out(tmp_path: Path) -> None:
    state = open_state(tmp_path / "state")
    assert stat.S_IMODE(state.root.stat().st_mode) == 0o700
    assert (state.root / ".gitignore").read_text() == "*\n"


@pytest.mark.parametrize("mode", [0o755, 0o750, 0o777, 0o701])
def test_one_that_others_can_look_into_is_closed_to_them_and_that_is_said_once(tmp_path: Path, mode: int) -> None:
    root = open_state(tmp_path / "state").root
    root.chmod(mode)
    with capture_logs() as lines:
        open_state(root)
        open_state(root)
    assert stat.S_IMODE(root.stat().st_mode) == 0o700
    assert [(line["event"], line["path"]) for line in lines] == [("made_private", str(root))]


def test_its_secrets_are_closed_to_others_too(tmp_path: Path) -> None:
    state = open_state(tmp_path / "state")
    salt = state.secret("edge")
    (state.root / "secrets").chmod(0o755)
    (state.root / "secrets" / "edge").chmod(0o644)
    with capture_logs() as lines:
        assert open_state(state.root).secret("edge") == salt
    assert [Path(line["path"]).name for line in lines] == ["secrets", "edge"]
    assert stat.S_IMODE((state.root / "secrets").stat().st_mode) == 0o700
    assert stat.S_IMODE((state.root / "secrets" / "edge").stat().st_mode) == 0o600


@pytest.mark.parametrize("exposed", [".", "secrets", "secrets/edge"])
def test_one_that_others_can_look_into_and_we_can_not_close_is_refused(tmp_path: Path, exposed: str) -> None:
    state = open_state(tmp_path / "state")
    state.secret("edge")
    (state.root / exposed).chmod(0o755)
    with (
        patch.object(Path, "chmod", side_effect=PermissionError),
        pytest.raises(Failed, match=r"`chmod [67]00 /") as raised,
    ):
        open_state(state.root)
    assert "others can look into" in str(raised.value)
    assert "--state" in str(raised.value)


def test_what_is_said_of_it_is_not_in_a_commands_answer(tmp_path: Path) -> None:
    root = open_state(tmp_path / "state").root
    root.chmod(0o755)
    made = trimtab("keys", "create", "--name", "app", "--scope", "chat", "--json", "--state", root, cwd=tmp_path)
    assert json.loads(made.stdout)["name"] == "app"
    (line,) = made.stderr.splitlines()
    assert json.loads(line)["event"] == "made_private"


def test_who_only_looks_changes_no_permission(tmp_path: Path) -> None:
    root = open_state(tmp_path / "state").root
    root.chmod(0o755)
    with capture_logs() as lines:
        find_state(root)
    assert (stat.S_IMODE(root.stat().st_mode), lines) == (0o755, [])


def test_a_secret_is_made_once(tmp_path: Path) -> None:
    state = open_state(tmp_path / "state")
    assert state.secret("edge") == open_state(state.root).secret("edge")
    assert stat.S_IMODE((state.root / "secrets" / "edge").stat().st_mode) == 0o600


def test_a_role_is_played_by_one_process_which_is_named_to_the_next(tmp_path: Path) -> None:
    state = open_state(tmp_path / "state")
    assert not state.played("worker")
    with state.lock("worker"):
        assert state.played("worker")
        with pytest.raises(Refused, match=rf"process {os.getpid()}\): stop it first"), state.lock("worker"):
            pass
    assert not state.played("worker")


def test_each_gateway_has_a_seat_and_a_spool_of_its_own_and_leaves_both_to_the_next(tmp_path: Path) -> None:
    state = open_state(tmp_path / "state")
    assert not state.played("gateway")
    with ExitStack() as first, state.play("gateway") as second:
        assert second == 1
        seat = first.enter_context(state.play("gateway"))
        assert seat == 2
        assert state.spool(seat) != state.spool(second)
        assert state.spool(1).name == "spool.db", "as before there were several"
        first.close()
        assert (state.seated(1), state.seated(2)) == (True, False)
        with state.play("gateway") as again:
            assert again == 2
    with state.play("gateway") as one:
        assert one == 1


def test_it_is_played_while_any_gateway_runs(tmp_path: Path) -> None:
    state = open_state(tmp_path / "state")
    with ExitStack() as first:
        first.enter_context(state.play("gateway"))
        with state.play("gateway"):
            first.close()
            assert state.played("gateway")
    assert not state.played("gateway")


def test_who_needs_the_gateways_away_is_refused_while_any_runs_and_none_begins_meanwhile(tmp_path: Path) -> None:
    state = open_state(tmp_path / "state")
    with ExitStack() as first:
        first.enter_context(state.play("gateway"))
        with state.play("gateway"):
            first.close()
            with pytest.raises(Refused, match=rf"process {os.getpid()}\): stop it first"), state.without("gateway"):
                pass
    with state.without("gateway"), pytest.raises(Refused, match="moved to another log"), state.play("gateway"):
        pass
    with state.play("gateway") as seat:
        assert seat == 1


def test_who_needs_another_role_away_is_refused_while_it_is_played(tmp_path: Path) -> None:
    state = open_state(tmp_path / "state")
    with state.play("worker"), pytest.raises(Refused, match="the worker of"), state.without("worker"):
        pass
    with state.without("worker"), pytest.raises(Refused, match="the worker of"), state.play("worker"):
        pass


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("99\n", "has format 99, this version of Trimtab knows 1: upgrade Trimtab"),
        *((odd, "should hold a number") for odd in ("x", "", "²", "-1", "9" * 5_000)),
    ],
)
def test_a_directory_of_another_format_is_refused_in_one_sentence(tmp_path: Path, content: str, sentence: str) -> None:
    open_state(tmp_path / "state")
    (tmp_path / "state" / "FORMAT").write_text(content)
    with pytest.raises(Failed, match=sentence):
        open_state(tmp_path / "state")


def test_a_directory_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(Failed, match="is no Trimtab state directory"):
        open_state(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.slow
def test_a_directory_that_has_nothing_but_a_base_yet_becomes_one(tmp_path: Path) -> None:
    """As `python -m models.smollm2 .trimtab` leaves it."""
    (tmp_path / "bases" / "smollm2-81aba0d5e354").mkdir(parents=True)
    open_state(tmp_path)
    assert (tmp_path / "FORMAT").exists()
    assert (tmp_path / "bases" / "smollm2-81aba0d5e354").exists()


def test_a_training_that_was_killed_is_not_called_running(tmp_path: Path) -> None:
    state = open_state(tmp_path / ".trimtab")
    open_control(state.control).trainings.start("200 new labels", 1)
    assert answer("status", cwd=tmp_path)["training"]["last"]["outcome"] == "killed"
    with state.lock("training"):
        assert answer("status", cwd=tmp_path)["training"]["last"]["outcome"] == "running"


@pytest.mark.slow
def test_checkpoints_that_nobody_took_up_for_a_week_go_with_the_next_training(tmp_path: Path) -> None:
    (tmp_path / "trimtab.toml").write_text('[base]\nname = "/nowhere"\n')
    state = open_state(tmp_path / ".trimtab")
    for name in ("abandoned", "fresh", "finished"):
        (state.work / name).mkdir()
    (state.work / "finished" / "result.json").touch()
    for name in ("abandoned", "finished"):
        long_ago = (state.work / name).stat().st_mtime - ABANDONED_S - 60
        os.utime(state.work / name, (long_ago, long_ago))
    failed = typed_in(tmp_path, "replay", SAMPLE)
    assert failed.code == 1
    assert failed.error.endswith("there is no base model directory /nowhere: correct base.name, or use `tiny`\n")
    left = {path.name for path in state.work.iterdir() if path.is_dir()}
    assert {"fresh", "finished"} <= left
    assert "abandoned" not in left


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of six megabytes."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = shutil.which("mount")
    made = mount and subprocess.run([mount, "-t", "tmpfs", "-o", "size=6m", "none", str(disk)], capture_output=True)
    if not made or made.returncode != 0:
        pytest.skip("a file system of its own can't be mounted here")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


@pytest.mark.slow
def test_a_full_disk_is_one_sentence_and_with_room_the_replay_goes_on(small_disk: Path, tmp_path: Path) -> None:
    state = small_disk / "state"
    full = trimtab("replay", "--no-train", SAMPLE, "--state", state, cwd=tmp_path)
    assert full.returncode == 1
    assert "disk" in full.stderr
    assert "Traceback" not in full.stderr
    assert full.stderr.count("trimtab: ") == 1
    subprocess.run(["mount", "-o", "remount,size=200m", str(small_disk)], check=True)
    done = answer("replay", "--no-train", SAMPLE, "--state", state, cwd=tmp_path)
    elsewhere = answer("replay", "--no-train", SAMPLE, "--state", tmp_path / "elsewhere", cwd=tmp_path)
    assert done["dataset_hash"] == elsewhere["dataset_hash"]


PROCESSES, ROUNDS = 6, 30


def make_at_once(root: Path, barrier: Barrier, told: Queue[list[object]]) -> None:
    """One process of many: a fresh directory in each round, at the same moment as all others."""
    for number in range(ROUNDS):
        barrier.wait(60)
        try:
            state = open_state(root / f"{number}")
            found: list[object] = [state.secret("edge"), state.secret("turns")]
            try:
                with state.lock("worker"):
                    barrier.wait(60)
                    found.append("played")
            except Refused:
                barrier.wait(60)
        except Failed as error:
            barrier.abort()
            told.put([str(error)])
            return
        told.put([number, *found])


@pytest.mark.slow
def test_however_many_make_it_at_once_it_is_one_with_one_secret_and_one_player(tmp_path: Path) -> None:
    barrier, told = FORKED.Barrier(PROCESSES), FORKED.Queue()
    processes = [FORKED.Process(target=make_at_once, args=(tmp_path, barrier, told)) for _ in range(PROCESSES)]
    for process in processes:
        process.start()
    answers = [told.get(timeout=60) for _ in range(PROCESSES * ROUNDS)]
    for process in processes:
        process.join(60)
    for number in range(ROUNDS):
        ours = [answer[1:] for answer in answers if answer[0] == number]
        assert len(ours) == PROCESSES, answers
        assert len({(edge, turns) for edge, turns, *_ in ours}) == 1
        assert sorted(len(found) for found in ours) == [*(PROCESSES - 1) * [2], 3]


def test_who_looks_whether_a_role_is_played_is_in_nobodys_way(tmp_path: Path) -> None:
    state, over = open_state(tmp_path / "state"), threading.Event()

    def look() -> None:
        while not over.is_set():
            state.played("worker")

    looking = [threading.Thread(target=look) for _ in range(2)]
    for thread in looking:
        thread.start()
    try:
        for _ in range(500):
            with state.lock("worker"):
                pass
    finally:
        over.set()
        for thread in looking:
            thread.join()
