"""Which processors have bfloat16, by what Linux says of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.processor import has_bf16


@pytest.mark.parametrize(
    ("described", "found"),
    [
        ("processor\t: 0\nflags\t\t: fpu avx512f avx512_bf16\n\nprocessor\t: 1\nflags\t\t: fpu avx512_bf16\n", True),
        ("flags : fpu amx_bf16\n", True),
        ("Features\t: fp asimd i8mm bf16 dgh\n", True),
        ("flags\t\t: fpu avx2 avx512f\nvmx flags\t: avx512_bf16\nbugs\t: bf16\n", False),
        ("flags : avx512_bf16\n\nflags : avx2\n", False),
        ("", False),
    ],
)
def test_it_is_there_where_every_core_says_so(tmp_path: Path, described: str, found: bool) -> None:
    (tmp_path / "cpuinfo").write_text(described)
    assert has_bf16(tmp_path / "cpuinfo", tmp_path / "gpus") is found
    (tmp_path / "gpus" / "0000:01:00.0").mkdir(parents=True)
    assert has_bf16(tmp_path / "cpuinfo", tmp_path / "gpus")


def test_where_nothing_describes_the_processor_it_has_none(tmp_path: Path) -> None:
    assert has_bf16(tmp_path / "missing", tmp_path / "missing") is False


def test_it_is_what_torch_says_of_this_processor() -> None:
    torch = pytest.importorskip("torch")
    if Path("/proc/cpuinfo").exists() and torch.backends.cpu.get_cpu_capability().startswith("AVX"):
        assert has_bf16(gpus=Path("/nowhere")) == torch.cpu._is_avx512_bf16_supported()
