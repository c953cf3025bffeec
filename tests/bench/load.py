"""The load: rows of mail from smtp-source through a relay to smtp-sink, and how one is measured.

End to end: the clock stops when the sink has taken the last message.
"""

from __future__ import annotations

import asyncio
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tests.bench.figures import Measured
from tests.bench.processes import PeakMemory, cpu_seconds
from tests.bench.relays import ROOT
from tests.ports import free_port

SOURCE, SINK = "/usr/sbin/smtp-source", "/usr/sbin/smtp-sink"
SESSIONS = 20
#: Messages before the clock starts.
WARM_UP = 100
#: Seconds that one measurement may take.
PATIENCE = 180
#: On a real disk: where this repository lies, not a memory file system.
DURABLE = ROOT / "build"


class Relay(Protocol):
    """What is measured: it takes mail on `port` from `start` to `stop`."""

    port: int

    async def start(self) -> int:
        """Start; the root of its processes."""

    async def stop(self) -> None:
        """Stop."""


#: A relay from a folder of its own and the sink's port.
Kind = Callable[[Path, int], Relay]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One kind of load. `messages` by relay: enough for some seconds of each."""

    key: str
    name: str
    octets: int
    reused: bool
    messages: Mapping[str, int]


ROWS = (
    Row(
        key="4k",
        name="4 KB, 20 reused connections",
        octets=4096,
        reused=True,
        messages={"mailrelay": 20000, "floor": 30000, "postfix": 4000},
    ),
    Row(
        key="4k-each",
        name="4 KB, a connection each",
        octets=4096,
        reused=False,
        messages={"mailrelay": 8000, "floor": 12000, "postfix": 3000},
    ),
    Row(
        key="100k",
        name="100 KB, 20 reused connections",
        octets=102400,
        reused=True,
        messages={"mailrelay": 4000, "floor": 5000, "postfix": 1500},
    ),
)


async def measure(kind: Kind, row: Row, count: int) -> Measured:
    """Start a relay and a sink, send `count` of the row's messages through, and stop both."""
    with tempfile.TemporaryDirectory(prefix="bench-", dir=DURABLE) as name:
        sink_port = free_port()
        listen = f"127.0.0.1:{sink_port}"
        sink = subprocess.Popen(
            [SINK, "-u", "nobody", "-M", str(count + WARM_UP), listen, "1024"],
            stdout=subprocess.DEVNULL,
        )
        try:
            await _until_listening(sink_port)
            relay = kind(Path(name), sink_port)
            root = await relay.start()
            try:
                await send(row, WARM_UP, relay.port)
                await asyncio.sleep(1.0)  # what it does after a start is not what we measure
                cpu_before = cpu_seconds(root)
                with PeakMemory(root) as memory:
                    started = time.perf_counter()
                    await send(row, count, relay.port)
                    await asyncio.to_thread(sink.wait, PATIENCE)
                    seconds = time.perf_counter() - started
                cpu = cpu_seconds(root) - cpu_before
            finally:
                await relay.stop()
        finally:
            if sink.poll() is None:
                sink.kill()
            sink.wait()
    return Measured(
        rate=count / seconds, cpu_ms=cpu / count * 1000, memory_mib=memory.octets / 2**20
    )


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
    try:
        async with asyncio.timeout(PATIENCE):
            status = await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if status != 0:
        raise RuntimeError(f"smtp-source ended with {status}")


async def _until_listening(port: int) -> None:
    async with asyncio.timeout(10):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                return
