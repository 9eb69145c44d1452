"""A real vLLM server for the tests, on the CPU, from the environment that `make vllm` makes.

TRIMTAB_TEST_VLLM=/path/to/bin/python names another environment that has one.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from models.bases import Base
from tests.kafka.broker import free_port

ROOT = Path(__file__).parents[2]
PYTHON = Path(os.environ.get("TRIMTAB_TEST_VLLM", ROOT / ".make" / "vllm" / "bin" / "python"))
SERVED_AS = "base"
READY_WITHIN_S = 600.0
"""It imports torch three times over, in one process after another."""
SHUTDOWN_S, GONE_WITHIN_S = 5, 60.0
MAX_RANK, SLOTS = 16, 2
BLOCK = 32
"""Tokens that the server keeps together; of 128, as it would on a CPU, a proof's contexts hardly find one again."""

LAYERS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")

_ENVIRONMENT = {
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # else every server works on the machine's first core
    "OMP_NUM_THREADS": "1",
    "VLLM_HOST_IP": "127.0.0.1",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
    "TORCHDYNAMO_DISABLE": "1",  # what is compiled once for 20 seconds runs for milliseconds here
    "PYTHONSAFEPATH": "1",
}


RUNNING: list[Vllm] = []
"""Whose log says more when a test fails."""


@dataclass
class Vllm:
    """One server; it may be frozen, killed, found dead and started again, and is ended in any case."""

    url: str
    log: Path
    process: subprocess.Popen[bytes]
    start: Callable[[], subprocess.Popen[bytes]]

    def send(self, which: signal.Signals) -> None:
        """To the server and all its workers."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, which)

    def kill(self) -> None:
        """At once, with all its workers."""
        self.send(signal.SIGKILL)
        self.process.wait(GONE_WITHIN_S)

    def again(self) -> None:
        """Start it on the same port; `healthy` tells when it answers."""
        self.process = self.start()

    def healthy(self) -> bool:
        """Whether it says that it can serve. Fails where it has ended."""
        if self.process.poll() is not None:
            pytest.fail(f"vLLM ended while it started, {self.log}:\n{self.told()}")
        return _healthy(self.url)

    def end(self) -> None:
        """Ask it to end; what has not by then is killed."""
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(GONE_WITHIN_S)
        self.send(signal.SIGKILL)
        self.process.wait(GONE_WITHIN_S)

    def told(self, last: int = 60) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-last:])


@contextmanager
def vllm(
    base: Base,
    folder: Path,
    *,
    dtype: Literal["float32", "bfloat16"] = "float32",
    layers: Sequence[str] = LAYERS,
    options: Sequence[str] = (),
) -> Iterator[Vllm]:
    """A server of `base`, answering; ended afterwards."""
    need()
    named = ["--lora-target-modules", *layers] if layers else []
    server = _start(base, folder, [f"--dtype={dtype}", *named, *options])
    RUNNING.append(server)
    try:
        _wait_until_healthy(server)
        yield server
    finally:
        RUNNING.remove(server)
        server.send(signal.SIGCONT)
        server.end()


def _start(base: Base, folder: Path, options: Sequence[str]) -> Vllm:
    folder.mkdir(parents=True, exist_ok=True)
    port, log = free_port(), folder / "vllm.log"
    command = [str(PYTHON), "-m", "vllm.entrypoints.openai.api_server", f"--model={base.path}"]
    command += [f"--served-model-name={SERVED_AS}", "--host=127.0.0.1", f"--port={port}"]
    command += ["--enable-lora", f"--max-lora-rank={MAX_RANK}", f"--max-loras={SLOTS}", "--max-cpu-loras=8"]
    command += [f"--shutdown-timeout={SHUTDOWN_S}", f"--block-size={BLOCK}", *options]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COV_", "VLLM_"))}
    environment = kept | _ENVIRONMENT | {"VLLM_CACHE_ROOT": str(folder / "cache")}

    def start() -> subprocess.Popen[bytes]:
        with log.open("ab") as told:
            return subprocess.Popen(
                command, stdout=told, stderr=told, cwd=folder, env=environment, start_new_session=True
            )

    return Vllm(f"http://127.0.0.1:{port}", log, start(), start)


def _wait_until_healthy(server: Vllm) -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    while not server.healthy():
        if time.monotonic() > deadline:
            pytest.fail(f"vLLM does not answer after {READY_WITHIN_S:g} s, {server.log}:\n{server.told()}")
        time.sleep(0.2)


def _healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def need() -> None:
    """Without an environment the test is skipped, in CI it fails."""
    if not PYTHON.exists():
        reason = "there is no vLLM for the tests: make vllm (about 6 GB), or name one in TRIMTAB_TEST_VLLM"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
