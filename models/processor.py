"""Whether this machine computes fast in bfloat16, for whoever has yet to decide what to train. No torch."""

from __future__ import annotations

import re
from pathlib import Path

BFLOAT16 = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
"""As Linux names them, and torch: on x86 and on ARM."""


def has_bf16(described: Path = Path("/proc/cpuinfo"), gpus: Path = Path("/proc/driver/nvidia/gpus")) -> bool:
    """Whether the processor has it, as Linux describes it, or there is a GPU; where nothing says so, it has not."""
    if gpus.is_dir() and any(gpus.iterdir()):
        return True
    try:
        text = described.read_text(errors="replace")
    except OSError:
        return False
    listed = re.findall(r"^(?:flags|Features)\s*:(.*)", text, re.MULTILINE)
    return bool(listed) and all(BFLOAT16 & set(flags.split()) for flags in listed)
