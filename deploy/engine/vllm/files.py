"""Adapters as engines read them: copies of the very bytes that were checked, in folders named by content and never changed.

adapters/<64 hex digest>/      an adapter
adapters/zero-<12 hex>/        one that changes nothing, in the shapes of an adapter: the base, where adapters are about
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePath

from msgspec.structs import replace

from feedback.durable import staged
from models.adapters import Adapter
from models.weights import zeros_like

ZERO = "zero-"
RESTS_S = 600.0
"""How long files stay that were asked for just now: another gateway may be about to have them loaded."""


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

    def digests(self) -> list[str]:
        """The adapters that engines find here. Raises OSError."""
        here = self.folder.iterdir() if self.folder.exists() else ()
        return [path.name for path in here if not path.name.startswith((ZERO, "."))]

    def has(self, path: PurePath) -> bool:
        """Whether what engines find at `path` (as `put` said it) is still there."""
        return (self.folder / path.name).exists()

    def remove(self, digests: Collection[str]) -> None:
        """Remove these, each as a whole, but for what was put here in the last RESTS_S seconds. Raises OSError."""
        if not digests:
            return
        with staged(self.folder) as stage:  # the file system's own clock tells how long ago
            now_s = stage.path.stat().st_mtime
            for digest in digests:
                with suppress(FileNotFoundError):  # another gateway was first
                    if now_s - (self.folder / digest).stat().st_mtime > RESTS_S:
                        (self.folder / digest).rename(stage.path / digest)

    def path(self, name: str) -> PurePath:
        """Where the engine finds what lies in the folder of that name."""
        return self.seen_as / name

    def _put(self, name: str, adapter: Adapter) -> PurePath:
        try:
            os.utime(self.folder / name)
        except FileNotFoundError:
            with staged(self.folder) as stage:
                adapter.write(stage.path)
                stage.publish(name)
        return self.path(name)
