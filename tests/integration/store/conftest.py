"""Opens stores, and closes what a test leaves open."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.integration.store.rig import StoreRig, disk


@pytest.fixture
async def make_store(tmp_path: Path) -> AsyncIterator[Callable[..., StoreRig]]:
    """Makes the store in the test's folder: again and again, as a gateway that starts again."""
    made: list[StoreRig] = []

    def make(**options: Any) -> StoreRig:
        made.append(disk(tmp_path / "spool", **options))
        return made[-1]

    yield make
    for rig in made:
        await rig.close()


@pytest.fixture
async def store(make_store: Callable[..., StoreRig]) -> StoreRig:
    """An open, empty store."""
    rig = make_store()
    rig.open()
    return rig
