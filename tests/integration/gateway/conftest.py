"""A gateway process per test, stopped at its end whatever happened."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.peers.gateway import GatewayProcess


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[GatewayProcess]:
    """A gateway that the test configures and starts."""
    process = GatewayProcess(tmp_path)
    yield process
    if process.process is not None:
        await process.kill()
