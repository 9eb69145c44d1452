"""Whether this machine computes in bfloat16 as fast as it should, for whoever has yet to decide whether to load torch."""

from __future__ import annotations

import re
from pathlib import Path

_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
"""As Linux names them, on x86 and on ARM. Elsewhere nobody is asked."""


def has_bf16(described: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether the processor has it, as Linux describes it; where that can't be read, it is taken for one that has not."""
    try:
        text = described.read_text(errors="replace")
    except OSError:
        return False
    listed = re.findall(r"^(?:flags|Features)\s*:(.*)", text, re.MULTILINE)
    return bool(listed) and all(_FLAGS & set(flags.split()) for flags in listed)
