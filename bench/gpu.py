"""Training steps of a model of 1 B parameters on a GPU beside TRL's: seconds, memory and tokens per second.

    python bench/gpu.py [--minutes 8] [--rounds 10] [--small] [--json]

Nothing is downloaded: the weights are random, in bfloat16, and so are the batches' ids. DPO and the reward model, each
with pairs of fixed and of varied lengths and with long prompts. Beside ours (a pair's prompt is computed once, activations
are kept while there is room) stands TRL, without gradient checkpointing and with it, its default. Losses have to be equal
within bfloat16's precision. Without a GPU, or with `--small`, a small shape runs on the CPU to show
that all of it works. What was not begun after `--minutes` is left out. Progress goes to standard error. Needs TRL:
pip install -r requirements-bench.lock.
"""

from __future__ import annotations

import argparse
import functools
import json
import logging
import os
import platform
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")  # sides' blocks differ, and fit badly

import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from bench.peers.steps import OURS, Figures, Shape, compare, differing, fixed, layout_s, table, varied
from bench.peers.trl_steps import KINDS, sides
from models.loading import device, training_dtype
from models.tiny import train_tokenizer


class Size(NamedTuple):
    """A model, and the batches that it learns from."""

    layers: int
    width: int
    inner: int
    heads: int
    vocabulary: int
    shapes: dict[str, Shape]


LARGE = Size(16, 2048, 8192, 32, 32_768, {
    "512 + 256 tokens": fixed(8, 512, 256),
    "varied": varied(8, (64, 768), (32, 384)),
    "1,536 + 128": fixed(4, 1_536, 128),
})  # fmt: skip
SMALL = Size(2, 64, 192, 4, 512, {
    "32 + 16 tokens": fixed(4, 32, 16),
    "varied": varied(4, (4, 48), (2, 24)),
    "96 + 8": fixed(2, 96, 8),
})  # fmt: skip
TOLERANCE = {torch.bfloat16: 4e-2, torch.float32: 2e-4}  # TRL's rewards come in bfloat16, in steps of 2^-8

Results = dict[str, dict[str, Figures]]


def make_base(size: Size, work: Path) -> tuple[Path, Any, int]:
    """A model of random weights as a base, made where models live; a tokenizer that TRL insists on; parameters."""
    tokenizer = train_tokenizer([[{"role": "user", "content": "hello there"}]], 300, work / "tokenizer")
    config = LlamaConfig(
        vocab_size=size.vocabulary, hidden_size=size.width, intermediate_size=size.inner, num_hidden_layers=size.layers,
        num_attention_heads=size.heads, num_key_value_heads=size.heads // 4, max_position_embeddings=4_096,
        tie_word_embeddings=True, pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )  # fmt: skip
    torch.manual_seed(0)
    with device():
        model: Any = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(work / "base")
    return work / "base", tokenizer, sum(p.numel() for p in model.parameters())


def run(size: Size, rounds: int, over: Callable[[], bool], work: Path) -> tuple[Results, list[str]]:
    """Every workload's figures that there was time for, by name; and what is no comparison."""
    base, tokenizer, parameters = make_base(size, work)
    dtype = training_dtype(base)
    tell(f"{parameters / 1e6:,.0f} M parameters, {dtype} on {where()}")
    results: Results = {}
    for kind in KINDS:
        for name, shape in size.shapes.items():
            workload = f"{kind}, {name}"
            if over():
                tell(f"{workload}: no time left")
                continue
            tell(workload)
            batch = functools.partial(shape.rows, size.vocabulary)
            builds = sides(kind, base, tokenizer, work / "trl")
            results[workload] = compare(builds, batch, rounds, tell, over)
            results[workload][OURS]["layout_s"] = statistics.median(layout_s(batch(n)) for n in range(5))
            tell(table({workload: results[workload]}))
    return results, differing(results, TOLERANCE[dtype])


def where() -> str:
    """The machine's name."""
    if not torch.cuda.is_available():
        return f"CPU ({platform.machine()}): this run has not seen a GPU"
    return f"{torch.cuda.get_device_name()}, torch {torch.__version__}"


def tell(line: str) -> None:
    """Progress, with the seconds since the start."""
    print(f"[{time.perf_counter() - START:5.0f} s] {line}", file=sys.stderr, flush=True)


START = time.perf_counter()


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--minutes", type=float, default=8, help="stop after so many")
    arguments.add_argument("--rounds", type=int, default=10, help="steps that count, of each side and workload")
    arguments.add_argument("--small", action="store_true", help="a small shape, as without a GPU")
    arguments.add_argument("--json", action="store_true", help="one JSON document")
    options = arguments.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.CRITICAL)
    size = LARGE if torch.cuda.is_available() and not options.small else SMALL
    with tempfile.TemporaryDirectory() as directory:
        results, wrong = run(
            size, options.rounds, lambda: time.perf_counter() - START > options.minutes * 60, Path(directory)
        )
    document = {"machine": where(), "workloads": results}
    print(json.dumps(document, indent=2) if options.json else f"on {where()}\n{table(results)}")
    sys.exit("\n".join(wrong) or 0)


if __name__ == "__main__":
    main()
