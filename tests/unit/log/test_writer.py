"""The writer's thread: a reader that is slow or gone holds up nobody, and what was dropped is
said.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from mailrelay_gateway.logwriter import LineWriter


@dataclass
class Pipe:
    """A pipe and what was read of it."""

    reader: int
    writer: int

    def read_all(self) -> list[bytes]:
        """Read until the writing end is closed."""
        os.close(self.writer)
        found = b""
        while octets := os.read(self.reader, 1 << 16):
            found += octets
        return found.split(b"\n")[:-1]

    def read(self, end: bytes) -> bytes:
        """Read until what came ends with `end`."""
        found = b""
        while not found.endswith(end):
            found += os.read(self.reader, 1 << 16)
        return found


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    found = Pipe(*os.pipe())
    yield found
    os.close(found.reader)


def writing(pipe: Pipe, max_waiting: int = 1 << 20) -> LineWriter:
    return LineWriter(
        open(pipe.writer, "wb", buffering=0, closefd=False),
        say_dropped=lambda count: b"dropped %d" % count,
        max_waiting=max_waiting,
    )


def test_lines_come_whole_and_in_order(pipe: Pipe) -> None:
    writer = writing(pipe)
    for n in range(1000):
        writer.msg(b"line %d" % n)
    assert writer.close(5.0)
    assert pipe.read_all() == [b"line %d" % n for n in range(1000)]


def test_lines_of_several_threads_stay_whole(pipe: Pipe) -> None:
    writer = writing(pipe)

    def write() -> None:
        for _ in range(150):
            writer.msg(b"x" * 99)

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert writer.close(5.0)
    assert pipe.read_all() == [b"x" * 99] * 600


def test_a_reader_that_stands_still_costs_lines_and_nothing_else(pipe: Pipe) -> None:
    writer = writing(pipe, max_waiting=100_000)
    line = b"x" * 999
    for _ in range(5000):  # 5 MB: the pipe takes 64 KiB, the writer twice what may wait
        writer.msg(line)
    assert 4000 < writer.dropped < 5000
    assert not writer.close(0.01)
    kept = 5000 - writer.dropped
    assert pipe.read(b"dropped %d\n" % writer.dropped).count(line + b"\n") == kept
    assert writer.close(5.0)


def test_a_reader_that_is_gone_or_a_full_disk_stops_nothing(pipe: Pipe) -> None:
    with open("/dev/full", "wb", buffering=0) as full:
        writer = LineWriter(full, say_dropped=lambda _: b"")
        writer.msg(b"x" * 70_000)
        assert writer.close(5.0)
    assert writer.dropped == 1
    reader, end = os.pipe()
    os.close(reader)
    with open(end, "wb", buffering=0) as gone:
        writer = LineWriter(gone, say_dropped=lambda _: b"")
        writer.msg(b"x")
        assert writer.close(5.0)
    assert writer.dropped == 1


def test_a_pipe_that_does_not_block_loses_nothing(pipe: Pipe) -> None:
    os.set_blocking(pipe.writer, False)
    writer = writing(pipe)
    for _ in range(500):
        writer.msg(b"x" * 999)
    reading = threading.Thread(target=pipe.read, args=(b"end\n",))
    writer.msg(b"end")
    reading.start()
    assert writer.close(20.0)
    reading.join()
    assert writer.dropped == 0
