"""Adapters as engines read them: copies of the very bytes that were checked, in folders named by content and never changed.

adapters/<64 hex digest>/      an adapter
adapters/zero-<12 hex>/        one that changes nothing, in the shapes of an adapter: the base, where adapters are about
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path, PurePath

from msgspec.structs import replace

from feedback.durable import staged
from models.adapters import Adapter
from models.weights import zeros_like

ZERO = "zero-"


@dataclass(frozen=True)
class Files:
    """`folder` here is `seen_as` where the engine runs."""

    folder: Path
    seen_as: PurePath

    def put(self, adapter: Adapter) -> PurePath:
        """Where the engine finds this adapter; written where it is not there yet. Raises OSError."""
        return self._put(adapter.manifest.digest, adapter)

    def put_zero(self, adapter: Adapter) -> PurePath:
        """Where the engine finds an adapter of this one's shapes that changes nothing. Raises OSError."""
        zero = replace(adapter, weights=zeros_like(adapter.weights))
        name = hashlib.sha256(zero.config + zero.weights).hexdigest()[:12]
        return self._put(f"{ZERO}{name}", zero)

    def keep(self, digests: Collection[str]) -> None:
        """Remove the adapters that nobody lists or uses any more."""
        for path in self.folder.iterdir() if self.folder.exists() else ():
            if not path.name.startswith((ZERO, ".")) and path.name not in digests:
                shutil.rmtree(path, ignore_errors=True)

    def path(self, name: str) -> PurePath:
        """Where the engine finds what lies in the folder of that name."""
        return self.seen_as / name

    def _put(self, name: str, adapter: Adapter) -> PurePath:
        if not (self.folder / name).exists():
            self.folder.mkdir(exist_ok=True)
            with staged(self.folder) as stage:
                adapter.write(stage.path)
                stage.publish(name)
        return self.path(name)
