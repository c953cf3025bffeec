"""`make bench`: mailrelay and Postfix, the same mail from smtp-source to smtp-sink, one after the
other in one run.

Prints a table and writes build/bench.json. End to end: the clock stops when the sink has taken the
last message. Each figure is the median of the runs; the two relays take turns, so that both see the
same machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.bench.processes import PeakMemory, cpu_seconds
from tests.bench.relays import Gateway, Postfix, gateway_python_version
from tests.peers.gateway import free_port

SOURCE, SINK = "/usr/sbin/smtp-source", "/usr/sbin/smtp-sink"
SESSIONS = 20
#: Seconds that one measurement may take.
PATIENCE = 180


@dataclass(frozen=True)
class Row:
    """One kind of load. `messages` by relay: enough for some seconds of each."""

    name: str
    octets: int
    reused: bool
    messages: dict[str, int]


ROWS = (
    Row("4 KB, 20 reused connections", 4096, True, {"mailrelay": 20000, "postfix": 4000}),
    Row("4 KB, a connection each", 4096, False, {"mailrelay": 8000, "postfix": 3000}),
    Row("100 KB, 20 reused connections", 102400, True, {"mailrelay": 4000, "postfix": 1500}),
)


@dataclass(frozen=True)
class Measured:
    """One measurement: messages a second, CPU milliseconds a message, peak memory in MiB."""

    rate: float
    cpu_ms: float
    memory_mib: float


async def measure(kind: type[Gateway] | type[Postfix], row: Row, scale: float) -> Measured:
    """Start a relay and a sink, send the row's mail through, and stop both."""
    count = max(100, int(row.messages[kind.name] * scale))
    with tempfile.TemporaryDirectory(prefix="mailrelay-bench-", dir=_durable_folder()) as name:
        sink_port = free_port()
        warm_up = 100
        sink = subprocess.Popen(
            [SINK, "-u", "nobody", "-M", str(count + warm_up), f"127.0.0.1:{sink_port}", "1024"],
            stdout=subprocess.DEVNULL,
        )
        subject = kind(Path(name), sink_port)
        root = await subject.start()
        try:
            await send(row, warm_up, subject.port)
            await asyncio.sleep(1.0)
            cpu_before = cpu_seconds(root)
            with PeakMemory(root) as memory:
                started = time.perf_counter()
                await send(row, count, subject.port)
                await asyncio.to_thread(sink.wait, PATIENCE)
                seconds = time.perf_counter() - started
            cpu = cpu_seconds(root) - cpu_before
        finally:
            await subject.stop()
            if sink.poll() is None:
                sink.kill()
                sink.wait()
    return Measured(count / seconds, cpu / count * 1000, memory.octets / 2**20)


async def send(row: Row, count: int, port: int) -> None:
    """Send the row's mail with smtp-source; raises when it was not all accepted."""
    arguments = ["-s", str(SESSIONS), "-m", str(count), "-l", str(row.octets)]
    if row.reused:
        arguments.append("-d")
    process = await asyncio.create_subprocess_exec(
        SOURCE,
        *arguments,
        *("-f", "app@example.com", "-t", "someone@example.net", f"127.0.0.1:{port}"),
        stdout=asyncio.subprocess.DEVNULL,
    )
    async with asyncio.timeout(PATIENCE):
        if await process.wait() != 0:
            raise RuntimeError(f"smtp-source ended with {process.returncode}")


def _durable_folder() -> str:
    """A folder on a real disk: where this repository lies, not a memory file system."""
    folder = Path(__file__).parents[2] / "build"
    folder.mkdir(exist_ok=True)
    return str(folder)


def middle(found: list[Measured]) -> Measured:
    """The median of each figure."""
    return Measured(
        *(
            statistics.median(getattr(each, key) for each in found)
            for key in ("rate", "cpu_ms", "memory_mib")
        )
    )


def table(results: dict[str, dict[str, Measured]]) -> str:
    """The results for people."""
    lines = [
        f"{'':32}{'messages/s':>24}{'CPU ms/message':>24}{'peak MiB':>20}",
        f"{'':32}{'mailrelay':>10}{'postfix':>9}{'':>5}{'mailrelay':>10}{'postfix':>9}{'':>5}"
        f"{'mailrelay':>10}{'postfix':>10}",
    ]
    for name, by_relay in results.items():
        ours, theirs = by_relay["mailrelay"], by_relay["postfix"]
        rate, cpu = ours.rate / theirs.rate, theirs.cpu_ms / ours.cpu_ms
        lines.append(
            f"{name:32}{ours.rate:10.0f}{theirs.rate:9.0f}{f'x{rate:.1f}':>5}"
            f"{ours.cpu_ms:10.3f}{theirs.cpu_ms:9.3f}{f'/{cpu:.1f}':>5}"
            f"{ours.memory_mib:10.0f}{theirs.memory_mib:10.0f}"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure everything and say it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="measurements of each figure")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the usual messages")
    parser.add_argument("--only", choices=("mailrelay", "postfix"), help="measure one of them")
    arguments = parser.parse_args()
    kinds = [kind for kind in (Gateway, Postfix) if arguments.only in (None, kind.name)]
    found: dict[str, dict[str, list[Measured]]] = {}
    for row in ROWS:
        for run in range(arguments.runs):
            for kind in kinds:
                sys.stderr.write(f"{row.name}: {kind.name}, run {run + 1} of {arguments.runs}\n")
                measured = asyncio.run(measure(kind, row, arguments.scale))
                sys.stderr.write(
                    f"  {measured.rate:.0f}/s, {measured.cpu_ms:.3f} ms,"
                    f" {measured.memory_mib:.0f} MiB\n"
                )
                found.setdefault(row.name, {}).setdefault(kind.name, []).append(measured)
    if len(kinds) < 2:
        return
    results = {
        name: {kind: middle(each) for kind, each in by_kind.items()}
        for name, by_kind in found.items()
    }
    sys.stdout.write(table(results) + "\n")
    path = Path(_durable_folder()) / "bench.json"
    path.write_text(
        json.dumps(
            {
                "machine": {"cores": os.cpu_count(), "gateway_python": gateway_python_version()},
                "runs": arguments.runs,
                "rows": {
                    name: {kind: asdict(each) for kind, each in by_kind.items()}
                    for name, by_kind in results.items()
                },
            },
            indent=2,
        )
        + "\n"
    )
    sys.stdout.write(
        f"also in {path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}\n"
    )


if __name__ == "__main__":
    main()
