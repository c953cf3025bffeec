"""A body's file: written in order, whole and durable, or gone."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mailrelay_gateway.intake.body_file import WINDOW, BodyFile
from tests.waiting import until


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as made:
        yield made


class Written:
    """A BodyFile and what it reported."""

    def __init__(self, path: Path, pool: ThreadPoolExecutor) -> None:
        self.progress = 0
        loop = asyncio.get_running_loop()
        self.finished: asyncio.Future[OSError | None] = loop.create_future()
        self.file = BodyFile(path, loop=loop, pool=pool, on_progress=self._progressed)

    def _progressed(self, octets: int) -> None:
        self.progress += octets

    async def finish(self) -> OSError | None:
        self.file.finish(self.finished.set_result)
        return await asyncio.wait_for(self.finished, 10)


async def test_writes_arrive_in_order_and_are_all_reported(
    tmp_path: Path, pool: ThreadPoolExecutor
) -> None:
    written = Written(tmp_path / "body", pool)
    parts = [bytes([n]) * (n * 100) for n in range(100)]
    for part in parts:
        written.file.write(part)
        if len(part) % 7 == 0:
            await asyncio.sleep(0)
    assert await written.finish() is None
    content = b"".join(parts)
    assert (tmp_path / "body").read_bytes() == content
    assert written.progress == len(content)


async def test_the_disk_may_be_slower(tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as pool:
        held = asyncio.Event()
        loop = asyncio.get_running_loop()
        pool.submit(lambda: asyncio.run_coroutine_threadsafe(held.wait(), loop).result(10))
        written = Written(tmp_path / "body", pool)
        written.file.write(b"x")
        written.file.write(b"y" * (WINDOW + 1))
        assert written.file.crowded
        held.set()
        await until(lambda: not written.file.crowded)
        assert await written.finish() is None


async def test_no_error_of_whatever_kind_passes_for_durable(
    tmp_path: Path, pool: ThreadPoolExecutor
) -> None:
    written = Written(tmp_path / "no\0name", pool)  # a ValueError, as a MemoryError might be
    written.file.write(b"x")
    assert isinstance(await written.finish(), OSError)


async def test_a_file_that_is_there_already_is_left_alone(
    tmp_path: Path, pool: ThreadPoolExecutor
) -> None:
    path = tmp_path / "body"
    path.write_bytes(b"somebody else's")
    written = Written(path, pool)
    written.file.write(b"mine")
    assert isinstance(await written.finish(), FileExistsError)
    written.file.drop()
    await until(lambda: written.file._removed)
    assert path.read_bytes() == b"somebody else's"


@pytest.mark.parametrize("finished", [False, True])
async def test_a_dropped_file_is_removed(
    tmp_path: Path, pool: ThreadPoolExecutor, finished: bool
) -> None:
    path = tmp_path / "body"
    written = Written(path, pool)
    written.file.write(b"x" * 1000)
    if finished:
        assert await written.finish() is None
        assert path.exists()
    written.file.write(b"more, which is never written")
    written.file.drop()
    await until(lambda: written.file._removed)
    assert not path.exists()
