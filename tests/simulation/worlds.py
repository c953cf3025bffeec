"""The worlds by name, and one life in one of them: what the tests and `make simulate` both run."""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog

from tests.simulation import queue_world
from tests.simulation.delivery_world import DeliveryWorld
from tests.simulation.depots import MemoryDepot
from tests.simulation.disk_depot import DiskDepot
from tests.simulation.virtual import VirtualLoop

#: Where fsync costs nothing: power loss is not simulated here.
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None

Make = Callable[[random.Random, Path], queue_world.World]


def queue(dice: random.Random, folder: Path) -> queue_world.World:
    """The scheduler over a store in memory, with a fake courier."""
    del folder
    return queue_world.World(dice, MemoryDepot(dice))


def disk(dice: random.Random, folder: Path) -> queue_world.World:
    """The scheduler over the real store, whose folder dies and is opened again."""
    return queue_world.World(dice, DiskDepot(dice, folder))


def delivery(dice: random.Random, folder: Path) -> queue_world.World:
    """The scheduler over a store in memory, with the real courier on a simulated network."""
    del folder
    return DeliveryWorld(dice, MemoryDepot(dice))


#: Each world, and how many of its seeds the tests run: some ten seconds of each.
WORLDS: dict[str, tuple[Make, int]] = {
    "queue": (queue, 120),
    "disk": (disk, 12),
    "delivery": (delivery, 60),
}


def live(name: str, seed: int) -> None:
    """One life. AssertionError: what was promised was not kept, or a part logged a defect."""
    make, _ = WORLDS[name]
    defects: list[str] = []

    def listen(_logger: Any, method: str, event: Any) -> Any:
        if method in ("error", "exception", "critical"):
            defects.append(f"{event}"[:2000])
        raise structlog.DropEvent

    async def whole_life(folder: Path) -> None:
        world = make(random.Random(seed), folder)
        await queue_world.live(world)
        queue_world.judge(world)

    before = structlog.get_config()
    structlog.configure(
        processors=[structlog.processors.format_exc_info, listen], cache_logger_on_first_use=False
    )
    try:
        with (
            tempfile.TemporaryDirectory(prefix="simulation-", dir=MEMORY) as folder,
            asyncio.Runner(loop_factory=VirtualLoop) as runner,
        ):
            runner.run(whole_life(Path(folder)))
    finally:
        structlog.configure(**before)
    assert not defects, defects[:3]
