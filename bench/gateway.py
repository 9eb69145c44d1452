"""Our gateway beside others, in turns, before an upstream that answers at once.

    python -P bench/gateway.py [--quick] [--rounds 5] [--json FILE] [--plot FILE.svg]
    python -P bench/gateway.py --kill [--kills 10]     kill -9 ours under load; is every answered turn in the log?
    python -P bench/gateway.py --profile               where ours spends its CPU

Ours keeps every turn on disk before its last piece is sent, and redacts it; the others, as they are configured here, keep
nothing, and `bare` does nothing but pass on, in Python: what that costs on this machine. Each runs on one core, all the time;
the upstream and the load share another, and are the same for all. A turn is: as many answers as it gives on 32 connections,
plain and streaming, then plain ones at 500 a second (Poisson, waits counted from when a request was due). CPU is that of the
whole process tree, from /proc. `direct` is the load on the upstream: what it reaches is the most that could be seen here. One
contestant runs twice: what differs between these two is noise.
`make peers` fetches the others; who is missing is left out.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from rich.console import Console

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.peers.contestants import CONTESTANTS, Absent, Running, started  # noqa: E402
from bench.peers.killing import kill_under_load  # noqa: E402
from bench.peers.processes import cores  # noqa: E402
from bench.peers.profiling import profile  # noqa: E402
from bench.peers.report import AGAIN, Results  # noqa: E402
from bench.peers.rounds import Upstream, take_turn, ways  # noqa: E402

console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)


@contextmanager
def running(
    upstream: int, only: Sequence[str], core: int | None
) -> Iterator[tuple[dict[str, Running], dict[str, str]]]:
    """Everybody who can be had here, the first of them twice; and why the others can't."""
    found, left_out = dict[str, Running](), dict[str, str]()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as ends:
        for one in CONTESTANTS:
            if only and not any(word.lower() in one.name.lower() for word in only):
                continue
            try:
                for name in (one.name, one.name + AGAIN) if not found else (one.name,):
                    found[name] = started(one, upstream, Path(folder), core)
                    ends.callback(found[name].close)
            except Absent as why:
                left_out[one.name] = str(why)
        for name, process in list(found.items()):  # all at once: some take long to start
            try:
                process.wait_ready()
            except Absent as why:
                left_out[name] = str(why)
                del found[name]
        yield found, left_out


def measured(asked: argparse.Namespace) -> Results:
    """All rounds; who begins moves on with each."""
    theirs, ours = cores()
    upstream = Upstream(ours, asked.words, asked.chunks)
    try:
        with running(upstream.port, asked.only, theirs) as (processes, left_out):
            for name, why in left_out.items():
                console.print(f"left out: {name}: {why}", markup=False, soft_wrap=True)
            if not processes:
                raise SystemExit("nobody is there to be measured")
            names, rounds = ["direct", *processes], []
            for number in range(asked.rounds):
                turns, first = {}, number % len(names)
                for name in names[first:] + names[:first]:
                    with console.status(f"round {number + 1} of {asked.rounds}: {name}"):
                        how = ways(asked.connections, asked.rate)
                        turns[name] = take_turn(processes.get(name), upstream, how, asked.seconds, ours, number)
                rounds.append(turns)
            return Results(names, rounds, CONTESTANTS, left_out)
    finally:
        upstream.close()


def only_ours(asked: argparse.Namespace) -> str:
    """--kill and --profile."""
    theirs, ours = cores()
    upstream = Upstream(ours, asked.words, asked.chunks)
    try:
        if asked.kill:
            return kill_under_load(upstream.port, asked.kills, (theirs, ours))
        return profile(upstream.port, (theirs, ours))
    except Absent as why:
        raise SystemExit(f"ours can't be started: {why}") from None
    finally:
        upstream.close()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two short rounds: under two minutes on a quiet machine")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each way of asking")
    parser.add_argument(
        "--connections", type=int, nargs="+", default=[32, 8], help="the first counts, others are told of"
    )
    parser.add_argument("--rate", type=float, default=500, help="requests a second for the added latency")
    parser.add_argument("--words", type=int, default=60, help="of a reply")
    parser.add_argument("--chunks", type=int, default=32, help="of a stream")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="not all contestants")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--plot", type=Path, metavar="FILE.svg")
    parser.add_argument("--kill", action="store_true", help="kill ours under load instead")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--profile", action="store_true", help="profile ours instead")
    asked = parser.parse_args()
    if asked.quick:
        asked.rounds, asked.seconds, asked.connections = 2, 0.8, asked.connections[:1]
    return asked


def main() -> None:
    asked = arguments()
    if asked.kill or asked.profile:
        print(only_ours(asked))
        return
    results = measured(asked)
    console.print(results.about(), markup=False, soft_wrap=True)
    console.print(f"{asked.rounds} rounds of {asked.seconds:g} s for each way of asking; medians")
    console.print(results.table(asked.rate))
    for remark in results.remarks():
        console.print(remark, markup=False, soft_wrap=True)
    if asked.json:
        asked.json.write_text(json.dumps(results.document(), indent=1) + "\n")
    if asked.plot:
        asked.plot.write_text(results.plot())


if __name__ == "__main__":
    main()
