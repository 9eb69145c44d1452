"""One training, as a process of its own: `python -m models.job SPEC.json`.

Takes a sealed snapshot to a candidate directory in five phases: base, reward, samples, policy, evaluate. Prints
progress as JSON lines on stdout and the candidate as the last one; an expected failure is one sentence on stderr and
exit code 1. It may be killed at any moment: run again, it goes on at its checkpoints and ends in the same adapter.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import resource
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from feedback.clock import Clock, SystemClock
from feedback.durable import staged, write_json
from models.adapters import MARKER, AdapterInvalid, Manifest, make_manifest, verify
from models.bases import SMOLLM2, Base, find_base
from models.errors import JobFailed
from models.imports import keep_imported, quick_imports
from models.lengths import MOST, Lengths, fit_lengths, teaches
from models.parent import end_with_parent
from models.smollm2 import FETCHING, install_smollm2
from models.snapshot import SnapshotData, read_dataset_hash, read_snapshot
from models.spec import RESULT, TrainingSpec, load_spec
from models.unlearned import unlearned

MIN_LABELS = 8
_FULL = ("No space left on device", "file write failed", "unexpected pos")

Emit = Callable[[dict[str, Any]], None]
T = TypeVar("T")


def main(arguments: list[str]) -> int:
    """Run the job of the spec file `arguments[0]`; returns the exit code."""
    if len(arguments) != 1:
        print("usage: python -m models.job SPEC.json", file=sys.stderr)
        return 2
    end_with_parent()  # checkpoints stay
    try:
        run(load_spec(Path(arguments[0])), _own_stdout(), SystemClock())
    except JobFailed as error:
        print(error, file=sys.stderr)
        return 1
    except Exception as error:
        sentence = resource_sentence(error)
        if sentence is None:
            raise
        print(sentence, file=sys.stderr)
        return 1
    return 0


def run(spec: TrainingSpec, emit: Emit, clock: Clock) -> Path:
    """Train what the spec asks for; returns the candidate directory."""
    snapshot, state = Path(spec.snapshot), Path(spec.state)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise JobFailed("a training runs in one process: start it without torchrun or accelerate launch")
    work = spec.work(read_dataset_hash(snapshot))
    with _alone(work):
        path = _known_result(work, state) or _train(spec, read_snapshot(snapshot), work, emit, clock)
        emit({"candidate": path.name, "path": str(path)})
    return path


def _train(spec: TrainingSpec, data: SnapshotData, work: Path, emit: Emit, clock: Clock) -> Path:
    check_labels(data)
    phases, state = _Phases(work, emit, clock), Path(spec.state)
    base = find_base(spec.base, spec.tiny, state)  # a base that is missing should fail before torch loads
    if base is None and spec.base.name == SMOLLM2:
        with phases.phase("base"):
            base = install_smollm2(state, lambda here, of: emit({"phase": FETCHING, "step": here, "of": of}))
    incumbent = _check_incumbent(spec, base)
    with quick_imports():
        prepare_torch(spec.threads)
        from models.best_of import reward_pairs, sample_prompts
        from models.evaluate import evaluate
        from models.loading import load_causal, load_chat, release_memory, training_dtype
        from models.policy import Method, choose_examples, train_policy
        from models.rendered import rendered_only
        from models.reward import train_reward
        from models.tiny import train_tiny
    keep_imported()

    with phases.phase("base") as report:
        base = base or train_tiny(data.turns, spec.base, spec.tiny, state, _folder(work / "base"), report)
        chat = load_chat(base, _kept_date(work, clock))
        data, unrendered = rendered_only(data, chat, spec.base.max_length or MOST)
        data, lengths = fit_lengths(chat, data, base, spec.base.max_length)
        max_length = lengths.max_length
        check_labels(data, lengths)
        dtype = training_dtype(base.path)
        release_memory()
    with phases.phase("reward") as report:
        judge = train_reward(data, base, chat, spec.reward, max_length, _folder(work / "reward"), report)
        release_memory()
    with phases.phase("samples") as report:
        model, tokens = load_causal(base.path, dtype), spec.policy.reply_tokens(base.tiny)
        sampled = sample_prompts(model, chat, data, spec.policy, max_length, tokens, work / "samples", report)
        del model
        release_memory()
        pairs, best_of = reward_pairs(sampled, judge, spec.policy, data)
    with phases.phase("policy") as report:
        examples = choose_examples(data, pairs, spec.policy.max_examples)
        adapter = train_policy(base, chat, examples, spec.policy, max_length, _folder(work / "policy"), report)
        release_memory()
    counts = {kind: len(rows) for kind, rows in examples.items()}
    from_reward_model = len({pair.id for pair in pairs} & {x.id for x in examples["dpo"]})
    method = Method(counts["sft"], counts["dpo"] - from_reward_model, counts["kto"], from_reward_model)
    with phases.phase("evaluate") as report:
        content = evaluate(base, chat, data, judge, adapter, incumbent, method, max_length, tokens, report)
    content |= {
        "lengths": msgspec.to_builtins(lengths),
        "unrendered": unrendered,
        "learning_rate": {"reward": spec.reward.rate(base.tiny), "policy": spec.policy.rate(base.tiny)},
        "best_of": msgspec.to_builtins(best_of),
        "unlearned": unlearned(data, lambda text: len(chat.content(text)), best_of.samples, best_of.cut, best_of.pairs),
        "precision": str(dtype).removeprefix("torch."),
        "created_at_us": clock.now_us(),
        "seconds": phases.seconds,
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }
    return _publish(content, make_manifest(adapter, base, chat.date), adapter, work, state)


def check_labels(data: SnapshotData, lengths: Lengths | None = None) -> None:
    """Raises JobFailed where there is too little to learn from, also (`lengths`) once what has no room is gone."""
    labels = data.label_count("train")
    if lengths and lengths.not_learned and (labels < MIN_LABELS or not teaches(data)):
        raise JobFailed(f"snapshot {data.name} can't be learned from: {'; '.join(lengths.not_learned)}")
    if labels < MIN_LABELS:
        raise JobFailed(
            f"snapshot {data.name} has {labels} labels in its train split, a training needs {MIN_LABELS}: "
            f"collect more ratings or verdicts"
        )


def _check_incumbent(spec: TrainingSpec, base: Base | None) -> Path | None:
    """The incumbent's directory, once it is known to be sound and of this base; `base` None: of one yet to be trained."""
    if spec.incumbent is None:
        return None
    path = Path(spec.incumbent)
    try:
        manifest = verify(path, path.name)
    except AdapterInvalid as error:
        raise JobFailed(f"the incumbent can't be compared with: {error}") from None
    if base is None or not manifest.fits(base):
        raise JobFailed(
            f"the incumbent {path.name[:16]} was trained on {manifest.base_name}, which is not the base of this training: "
            f"restore that base, or roll back to the base model first"
        )
    return path


def _kept_date(work: Path, clock: Clock) -> str:
    """The day that this training began, UTC: a template that tells the date tells this one, also after midnight."""
    path = work / "date.json"
    if not path.exists():
        write_json(path, {"date": datetime.fromtimestamp(clock.now_us() / 1e6, UTC).date().isoformat()})
    return str(json.loads(path.read_bytes())["date"])


def _publish(content: dict[str, Any], manifest: Manifest, adapter: Path, work: Path, state: Path) -> Path:
    """The candidate directory, all at once; then the checkpoints go."""
    with staged(state / "candidates") as fresh:
        shutil.copytree(adapter, fresh.path / "adapter")
        shutil.copytree(work / "reward" / "model", fresh.path / "reward_model")
        write_json(fresh.path / "manifest.json", manifest.content)
        write_json(fresh.path / "report.json", {"digest": manifest.digest, **content})
        path = fresh.publish(manifest.digest, MARKER)
    write_json(work / RESULT, {"candidate": manifest.digest})
    for folder in ("base", "reward", "samples", "policy"):
        shutil.rmtree(work / folder, ignore_errors=True)
    return path


def _known_result(work: Path, state: Path) -> Path | None:
    try:
        path = state / "candidates" / json.loads((work / RESULT).read_bytes())["candidate"]
    except FileNotFoundError:
        return None
    return path if (path / MARKER).exists() else None


class _Phases:
    """Reports the job's phases, and how long each took, also over restarts."""

    def __init__(self, work: Path, emit: Emit, clock: Clock) -> None:
        self.path, self.emit, self._clock = work / "seconds.json", emit, clock
        self.seconds: dict[str, float] = json.loads(self.path.read_bytes()) if self.path.exists() else {}

    @contextmanager
    def phase(self, name: str) -> Iterator[Callable[[int, int], None]]:
        start = self._clock.monotonic_s()
        self.emit({"phase": name, "step": 0, "of": 0})
        yield lambda step, of: self.emit({"phase": name, "step": step, "of": of})
        self.seconds[name] = round(self.seconds.get(name, 0.0) + self._clock.monotonic_s() - start, 3)
        write_json(self.path, self.seconds)


@contextmanager
def _alone(work: Path) -> Iterator[None]:
    """No other process trains the same at the same time."""
    work.mkdir(parents=True, exist_ok=True)
    with (work / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise JobFailed(f"another process is at this training already ({work}): wait for it or stop it") from None
        yield


def prepare_torch(threads: int) -> None:
    """Quiet, and the same result every time."""
    os.environ |= {"TOKENIZERS_PARALLELISM": "false", "CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
    warnings.filterwarnings("ignore")
    import torch

    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined] # it takes a tenth of the time


def _own_stdout() -> Emit:
    """Lines for whoever started the job; what a library prints goes to stderr."""
    lines = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def emit(line: dict[str, Any]) -> None:
        print(json.dumps(line), file=lines, flush=True)

    return emit


def resource_sentence(error: Exception) -> str | None:
    """What to do about a full disk or memory; None where the error is something else."""
    text = str(error)
    if (isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)) or any(s in text for s in _FULL):
        return "the disk is full: free some space and run the training again, it goes on where it stopped"
    if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
        return f"{error.filename} can't be written ({error.strerror}): correct its permissions and run it again"
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return "not enough memory for this training: lower policy.batch_size, reward.batch_size or base.max_length"
    return None


def _folder(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
