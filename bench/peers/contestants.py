"""Who is measured, where it comes from, and how it is started. Peers lie in .make/peers (`make peers`); nothing else uses them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from bench.peers.load import Load, Plan
from bench.peers.processes import on_core
from bench.peers.upstream import MODEL

ROOT = Path(__file__).resolve().parents[2]
PEERS = ROOT / ".make" / "peers"
PORTKEY = PEERS / "node_modules" / "@portkey-ai" / "gateway"
READY_S = 90.0


class Absent(Exception):
    """It can't be measured here; says why, and what to do."""


@dataclass(frozen=True)
class Start:
    """How one process is started, and asked."""

    command: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Contestant:
    """`start` makes a start of (port, the upstream's port, a folder of its own); raises Absent."""

    name: str
    licence: str
    version: Callable[[], str]
    start: Callable[[int, int, Path], Start]


def ours(port: int, upstream: int, folder: Path) -> Start:
    """A gateway as in production: turns durable on disk before their last piece is sent, personal data redacted."""
    from deploy.settings import Settings

    if "engine" not in Settings.model_fields:
        raise Absent("this version has no [engine] section yet: it can't pass chats on")
    config = folder / "trimtab.toml"
    config.write_text(f'[engine]\nkind = "openai"\nurls = ["http://127.0.0.1:{upstream}/v1"]\nmodel = "{MODEL}"\n')
    where = ["--state", str(folder / "state"), "--config", str(config)]
    ports = ["--port", str(port), "--admin-port", str(free_port())]
    environment = {"PYTHONPATH": str(ROOT)}
    return Start([sys.executable, "-P", "-m", "deploy.cli", "gateway", *where, *ports], environment)


def bare(port: int, upstream: int, folder: Path) -> Start:
    """Nothing but passing on, in Python: what server and client cost on this machine."""
    return Start([sys.executable, "-P", str(ROOT / "bench" / "peers" / "bare.py"), str(port), str(upstream)])


def portkey(port: int, upstream: int, folder: Path) -> Start:
    """Portkey's open gateway on Node; where to ask is in the request's headers."""
    command = ["node", str(_there(PORTKEY / "build" / "start-server.js")), f"--port={port}", "--headless"]
    headers = {"x-portkey-provider": "openai", "x-portkey-custom-host": f"http://127.0.0.1:{upstream}/v1"}
    return Start(command, {"NODE_ENV": "production"}, headers | {"authorization": "Bearer bench"})


def litellm(port: int, upstream: int, folder: Path) -> Start:
    """LiteLLM's proxy, one worker, without a database and with as little logging as it has."""
    served = {"model": f"openai/{MODEL}", "api_base": f"http://127.0.0.1:{upstream}/v1", "api_key": "bench"}
    config = {"model_list": [{"model_name": MODEL, "litellm_params": served}]}
    (folder / "config.yaml").write_text(json.dumps(config))  # JSON is YAML
    options = [
        "--config",
        str(folder / "config.yaml"),
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--num_workers",
        "1",
    ]
    quiet = {"LITELLM_LOG": "ERROR", "LITELLM_LOCAL_MODEL_COST_MAP": "True", "NO_DOCS": "True"}
    quiet["LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY"] = "true"  # nobody needs a key of the others either
    return Start([str(_there(PEERS / "bin" / "litellm")), *options, "--telemetry", "False"], quiet)


def ferro(port: int, upstream: int, folder: Path) -> Start:
    """Ferro Labs' gateway, written in Go; what it keeps of requests it keeps in memory."""
    (folder / "config.json").write_text(
        json.dumps({"strategy": {"mode": "single"}, "targets": [{"virtual_key": "openai"}]})
    )
    environment = {
        "PORT": str(port), "GATEWAY_CONFIG": str(folder / "config.json"), "OPENAI_API_KEY": "bench", "LOG_LEVEL": "error",
        "OPENAI_BASE_URL": f"http://127.0.0.1:{upstream}/v1", "ALLOW_UNAUTHENTICATED_PROXY": "true", "FERRO_MODEL_CATALOG_TIMEOUT": "0",
        "MASTER_KEY": "fgw_" + "0" * 32, "RATE_LIMIT_RPS": "1000000", "RATE_LIMIT_BURST": "1000000",
    }  # fmt: skip
    return Start([str(_there(PEERS / "bin" / "ferrogw")), "serve"], environment, {"authorization": "Bearer bench"})


def _there(path: Path) -> Path:
    if not path.exists():
        raise Absent(f"{path.relative_to(ROOT)} is missing: make peers")
    return path


def _from_lock(name: str) -> str:
    lines = (ROOT / "requirements-peers.lock").read_text().splitlines()
    return next((line.split("==")[1].split()[0] for line in lines if line.startswith(f"{name}==")), "?")


def _portkey_version() -> str:
    return str(json.loads((PORTKEY / "package.json").read_text())["version"])


OURS = Contestant("ours", "Apache-2.0", lambda: version("trimtab"), ours)
BARE = Contestant("bare (Python)", "Apache-2.0", lambda: version("trimtab"), bare)
CONTESTANTS = (
    OURS,
    BARE,
    Contestant("Portkey (Node)", "MIT", _portkey_version, portkey),
    Contestant("LiteLLM (Python)", "MIT", lambda: _from_lock("litellm"), litellm),
    Contestant("Ferro (Go)", "Apache-2.0", lambda: _from_lock("ferrogw"), ferro),
)


class Running:
    """One contestant's process. Raises Absent when it does not answer a chat in time, with the end of what it said."""

    def __init__(self, start: Start, port: int, folder: Path, core: int | None) -> None:
        self.port, self.headers, self._said = port, start.headers, folder / "said.log"
        kept = {name: value for name, value in os.environ.items() if not name.startswith("TRIMTAB_")}
        with on_core(core), self._said.open("ab") as said:
            self.process = subprocess.Popen(
                start.command, cwd=folder, env=kept | start.environment, stdin=subprocess.DEVNULL, stdout=said, stderr=said,
                start_new_session=True,
            )  # fmt: skip

    def wait_ready(self, within_s: float = READY_S) -> None:
        """Until it has answered a chat of each kind."""
        until = time.monotonic() + within_s
        for stream in (False, True):
            while (why := self._asked_once(stream)) and time.monotonic() < until and self.process.poll() is None:
                time.sleep(0.2)
            if why:
                self.close()
                said = self._said.read_text(errors="replace")[-400:].strip()
                raise Absent(f"it does not answer: {why[:200]} … {said}")

    def _asked_once(self, stream: bool) -> str:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=2).close()
        except OSError as error:
            return f"{type(error).__name__}"
        counted = Load(Plan(self.port, 0.0, 1, stream=stream, warm_s=0.0, headers=self.headers, least=1)).run()
        return counted.first_error or ("" if counted.answers else "no answer")

    def close(self) -> None:
        """End the process and all that it started."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(10)
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def free_port() -> int:
    """One that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def started(contestant: Contestant, upstream: int, folder: Path, core: int | None) -> Running:
    """In a folder of its own below `folder`; it is not waited for. Raises Absent."""
    port, own = free_port(), Path(tempfile.mkdtemp(dir=folder))
    return Running(contestant.start(port, upstream, own), port, own, core)
