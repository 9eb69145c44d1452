"""What a team does from a terminal: `trimtab` commands and the running service, in a directory of its own."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx

from tests.deploy.commands import environment, free_ports

COMMAND = (sys.executable, "-P", "-m", "deploy.cli")
STOPPED_WITHIN_S = 60.0
SAY_EVERY_S = 30.0

T = TypeVar("T")


class LoopFailed(Exception):
    """What did not come about, in a sentence."""


@dataclass(frozen=True)
class Team:
    """Commands print as they do for people, so that their progress is seen; what is said of them is `say`'s."""

    folder: Path
    say: Callable[[str], None]

    @property
    def state(self) -> Path:
        return self.folder / ".trimtab"

    @property
    def log(self) -> Path:
        """What the service logs."""
        return self.folder / "up.log"

    def run(self, *words: str | Path) -> None:
        """Run a command to its end. Raises LoopFailed."""
        self.say(f"$ trimtab {shlex.join(map(str, words))}")
        code = subprocess.run([*COMMAND, *map(str, words)], cwd=self.folder, env=environment(), check=False).returncode
        if code != 0:
            raise LoopFailed(f"`trimtab {words[0]}` ended with code {code}, and said why")

    def ask(self, *words: str | Path) -> Any:
        """The JSON document of a command. Raises LoopFailed."""
        command = [*COMMAND, *map(str, words), "--json"]
        done = subprocess.run(command, cwd=self.folder, env=environment(), capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise LoopFailed(f"`trimtab {words[0]}` ended with code {done.returncode}: {done.stderr.strip()}")
        return json.loads(done.stdout)

    @contextmanager
    def up(self) -> Iterator[str]:
        """`trimtab up`, ready; yields the address for chats. Raises LoopFailed."""
        port = free_ports(5)
        words = ["up", "--port", f"{port}", "--admin-port", f"{port + 1}"]
        self.say(f"$ trimtab {' '.join(words)}  (its log: {self.log})")
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [*COMMAND, *words], cwd=self.folder, env=environment(), stdout=log, stderr=log, start_new_session=True
            )
        try:
            self.wait(lambda: _ready(process, port, self.log), "`trimtab up` to be ready", within_s=300)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(STOPPED_WITHIN_S)
            process.kill()
            process.wait()

    def wait(self, look: Callable[[], T | None], what: str, within_s: float, every_s: float = 0.5) -> T:
        """What `look` gives once it gives something. Says now and then that it waits; raises LoopFailed."""
        began = said = time.monotonic()
        while not (found := look()):
            now = time.monotonic()
            if now - began > within_s:
                raise LoopFailed(f"waited {within_s:.0f} s in vain for {what}")
            if now - said > SAY_EVERY_S:
                self.say(f"  {now - began:.0f} s: waiting for {what}")
                said = now
            time.sleep(every_s)
        return found

    def logged(self, event: str) -> dict[str, Any] | None:
        """The last line of the service's log that tells of this event."""
        lines = self.log.read_text(errors="replace").splitlines()
        told = [json.loads(line) for line in lines if line.startswith("{") and f'"{event}"' in line]
        return next((line for line in reversed(told) if line.get("event") == event), None)


def _ready(process: subprocess.Popen[bytes], port: int, log: Path) -> bool:
    if process.poll() is not None:
        raise LoopFailed(f"`trimtab up` ended with code {process.returncode}, see {log}")
    try:
        return httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False
