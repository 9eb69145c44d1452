"""The shipped log, sealed as `trimtab replay` seals it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOG = ROOT / "examples" / "support.jsonl.gz"


def sealed(state: Path) -> Path:
    """The snapshot's directory, in the state directory `state`; what the command says goes to stderr."""
    state.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-P", "-m", "deploy.cli", "replay", "--no-train", str(LOG)]
    environment = os.environ | {"TRIMTAB_STATE": str(state), "PYTHONPATH": str(ROOT)}
    subprocess.run(command, check=True, env=environment, cwd=state, stdout=sys.stderr)
    [snapshot] = (path for path in (state / "snapshots").iterdir() if not path.name.startswith("."))
    return snapshot
