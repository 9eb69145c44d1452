"""Seconds, memory and tokens per second of training steps beside TRL's, on the same batches, with equal losses.

    python bench/training.py [--base small|smollm2] [--rounds 5] [--only TEXT] [--json]

`small` has 4 layers x 256; `smollm2` is SmolLM2-135M-Instruct, fetched once. Batches of eight pairs of random ids. Steps
alternate, so that a busy machine slows all; each round gives one ratio, and the table shows their spread. A step is: make
tensors of the batch, loss, gradients, optimizer. TRL has its defaults (its fused output head included), with and without
gradient checkpointing, LoRA as ours, the reference by switching the adapter off, dropout 0. It is needed for this only:
pip install -r requirements-bench.lock.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
import time
import warnings
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from transformers import AutoTokenizer
from transformers.utils import logging as transformers_logging

from bench.peers.steps import Figures, compare, differing, fixed, table, varied
from bench.peers.trl_steps import KINDS, sides
from models.loading import training_dtype
from models.settings import TinySettings
from models.smollm2 import install_smollm2
from models.tiny import fresh_model, train_tokenizer

KEPT = Path(__file__).resolve().parents[1] / ".make" / "real"
VOCABULARY, LAYERS, WIDTH, PAIRS = 8_192, 4, 256, 8
THREADS = 2
TOLERANCE = {torch.float32: 2e-4, torch.bfloat16: 4e-2}
SHAPES = {"192 + 64 tokens": fixed(PAIRS, 192, 64), "varied": varied(PAIRS, (16, 192), (4, 64))}


def small(work: Path) -> tuple[Path, Any]:
    """An untrained base, and a tokenizer that TRL insists on."""
    sizes = TinySettings(vocabulary=300, layers=LAYERS, width=WIDTH)
    tokenizer = train_tokenizer([[{"role": "user", "content": "hello there"}]], 300, work / "tokenizer")
    model = fresh_model(tokenizer, sizes, 512)
    model.resize_token_embeddings(VOCABULARY)
    model.save_pretrained(work / "base")
    return work / "base", tokenizer


def smollm2(work: Path) -> tuple[Path, Any]:
    """SmolLM2, kept where `make real` keeps it."""
    path = install_smollm2(KEPT, lambda *_: None).path
    return Path(path), AutoTokenizer.from_pretrained(path)


BASES = {"small": small, "smollm2": smollm2}


def run(base: Path, tokenizer: Any, rounds: int, only: str, work: Path) -> dict[str, dict[str, Figures]]:
    """Every workload's figures, by name."""
    vocabulary = json.loads((base / "config.json").read_bytes())["vocab_size"]
    return {
        f"{kind}, {name}": compare(sides(kind, base, tokenizer, work), partial(shape.rows, vocabulary), rounds, tell)
        for kind in KINDS
        for name, shape in SHAPES.items()
        if only in f"{kind}, {name}"
    }


def tell(line: str) -> None:
    """Progress, with the seconds since the start."""
    print(f"[{time.perf_counter() - START:5.0f} s] {line}", file=sys.stderr, flush=True)


START = time.perf_counter()


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--base", choices=BASES, default="small", help="what is trained")
    arguments.add_argument("--rounds", type=int, default=5, help="steps that count, of each side and workload")
    arguments.add_argument("--only", default="", help="only workloads whose name has this in it, e.g. 'DPO, varied'")
    arguments.add_argument("--json", action="store_true", help="one JSON document")
    options = arguments.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.CRITICAL)
    transformers_logging.disable_progress_bar()
    torch.set_num_threads(THREADS)
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory)
        base, tokenizer = BASES[options.base](work)
        figures = run(base, tokenizer, options.rounds, options.only, work / "trl")
        wrong = differing(figures, TOLERANCE[training_dtype(base)])
    print(json.dumps(figures, indent=2) if options.json else table(figures))
    sys.exit("\n".join(wrong) or 0)


if __name__ == "__main__":
    main()
