"""The local engine's tokens per second with 1, 2, 4 and 8 replies in parallel, and what a token costs in longer replies.

    python bench/local.py [--before DIRECTORY] [--rounds 3] [--json]

Replies run as the gateway runs them: an engine's thread takes them, all at once. With `--before` another checkout of this
project is measured beside this one: a process each, on the same models, taking turns, so that a busy machine slows both
alike. Two bases: `tiny` as shipped, and an untrained one of the shape of SmolLM2-135M; a reply is greedy, of a fixed
length (a base that ends no reply of itself). Torch has the threads that it has in the service: its own choice, or OMP_NUM_THREADS.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PARALLEL = (1, 2, 4, 8)
SHAPES: dict[str, dict[str, Any]] = {
    "tiny": {"layers": 4, "width": 192, "heads": 6, "kv_heads": 6, "inner": 512, "vocabulary": 1_500, "tokens": 96},
    "135M": {"layers": 30, "width": 576, "heads": 9, "kv_heads": 3, "inner": 1_536, "vocabulary": 49_152, "tokens": 12},
}
LENGTHS = {"tiny": (128, 256, 512, 1_024), "135M": (16, 32, 64)}
CONTEXT = 2_048


def make_base(shape: dict[str, Any], path: Path) -> None:
    """An untrained model of this shape, and a tokenizer in which every one of its tokens is text."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from models.tiny import train_tokenizer

    vocabulary = shape["vocabulary"]
    tokenizer = train_tokenizer([[{"role": "user", "content": "hello there"}]], 300, path.with_suffix(".tokenizer"))
    tokenizer.add_tokens([f"word{n} " for n in range(vocabulary - len(tokenizer))])
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=shape["width"], intermediate_size=shape["inner"],
        num_hidden_layers=shape["layers"], num_attention_heads=shape["heads"], num_key_value_heads=shape["kv_heads"],
        max_position_embeddings=CONTEXT, tie_word_embeddings=True, pad_token_id=0, eos_token_id=1, bos_token_id=None,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(path)
    tokenizer.save_pretrained(path)


def serve(path: Path) -> None:
    """Answer questions on standard input: {"replies", "tokens"}; with what it took."""
    import torch  # noqa: F401 - loaded before anything is timed

    from deploy.engine.thread import EngineThread
    from models.bases import describe
    from models.engine import LocalEngine

    engine = LocalEngine(describe(path, path.name))
    engine._chat.end_ids = frozenset()  # every reply has its full length
    thread = EngineThread(max(PARALLEL))
    thread.start(engine)
    for line in sys.stdin:
        asked = json.loads(line)
        print(json.dumps(asyncio.run(run(thread, asked["replies"], asked["tokens"]))), flush=True)
    thread.stop()


async def run(thread: Any, replies: int, tokens: int) -> dict[str, float]:
    """So many replies of so many tokens at once."""
    from deploy.engine.port import Reply, Sampling

    loop = asyncio.get_running_loop()
    messages = [{"role": "user", "content": "hello there, how are you today? " * 2}]
    under_way = [Reply(messages, None, Sampling(tokens, 0.0), loop) for _ in range(replies)]

    async def read(reply: Any) -> None:
        async for _ in reply:
            pass

    started, spent = time.perf_counter(), time.process_time()
    for reply in under_way:
        thread.reserve()
        thread.put(reply)
    await asyncio.gather(*map(read, under_way))
    assert all(reply.completion_tokens == tokens for reply in under_way)
    return {"tokens": replies * tokens, "s": time.perf_counter() - started, "cpu_s": time.process_time() - spent}


class Side:
    """One checkout, in a process of its own."""

    def __init__(self, root: Path, base: Path) -> None:
        command = [sys.executable, str(Path(__file__).absolute()), "--serve", str(base), "--root", str(root)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.ask(1, 8)  # warm

    def ask(self, replies: int, tokens: int) -> dict[str, float]:
        """What it took: `tokens`, `s`, `cpu_s`."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps({"replies": replies, "tokens": tokens}), file=self._process.stdin, flush=True)
        found: dict[str, float] = json.loads(self._process.stdout.readline())
        return found

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def measure(sides: dict[str, Side], shape: str, rounds: int) -> dict[str, Any]:
    """Medians over rounds in which the sides take turns."""
    asked = [(n, SHAPES[shape]["tokens"]) for n in PARALLEL] + [(1, length) for length in LENGTHS[shape]]
    found: dict[str, list[list[dict[str, float]]]] = {name: [[] for _ in asked] for name in sides}
    for number in range(rounds):
        for at, (replies, tokens) in enumerate(asked):
            for name in list(sides) if number % 2 else list(reversed(sides)):
                found[name][at].append(sides[name].ask(replies, tokens))
    return {name: summary([found[name][at] for at in range(len(asked))], shape) for name in sides}


def summary(found: list[list[dict[str, float]]], shape: str) -> dict[str, Any]:
    """One side's figures."""
    together, along = found[: len(PARALLEL)], found[len(PARALLEL) :]

    def rate(rounds: list[dict[str, float]], per: str) -> float:
        return statistics.median(one["tokens"] / one[per] for one in rounds)

    return {
        "tokens_per_s": {n: rate(rounds, "s") for n, rounds in zip(PARALLEL, together, strict=True)},
        "tokens_per_cpu_s": {n: rate(rounds, "cpu_s") for n, rounds in zip(PARALLEL, together, strict=True)},
        "cpu_ms_per_token": {
            length: 1_000 / rate(rounds, "cpu_s") for length, rounds in zip(LENGTHS[shape], along, strict=True)
        },
    }


def show(shape: str, figures: dict[str, Any]) -> None:
    print(f"{shape}: so many replies in parallel, {SHAPES[shape]['tokens']} tokens each; so many tokens in one reply")
    for name, found in figures.items():
        for what, row in found.items():
            print(f"  {name:7} {what:18}" + "".join(f"{n:>7}: {figure:7.2f}" for n, figure in row.items()))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, help="another checkout, to be measured beside this one")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--base", choices=SHAPES, action="append", help="only this one")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--root", type=Path, default=ROOT, help=argparse.SUPPRESS)
    options = parser.parse_args()
    sys.path.insert(0, str(options.root))
    if options.serve:
        return serve(options.serve)
    figures = {}
    roots = {"before": options.before.absolute()} if options.before else {}
    with tempfile.TemporaryDirectory() as directory:
        for shape in options.base or SHAPES:
            base = Path(directory) / shape
            make_base(SHAPES[shape], base)
            sides = {name: Side(root, base) for name, root in (roots | {"now": ROOT}).items()}
            figures[shape] = measure(sides, shape, options.rounds)
            for side in sides.values():
                side.close()
            if not options.json:
                show(shape, figures[shape])
    if options.json:
        print(json.dumps(figures, indent=2))
    return None


if __name__ == "__main__":
    main()
