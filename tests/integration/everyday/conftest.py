"""A real gateway process and the servers behind it, stopped at the end whatever happened."""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.integration.everyday.scale import figures
from tests.peers.gateway import GatewayProcess
from tests.peers.moody import MoodyServer


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[GatewayProcess]:
    """A gateway that the test configures and starts."""
    process = GatewayProcess(tmp_path)
    yield process
    if process.process is not None:
        await process.kill()


@pytest.fixture
async def upstream() -> AsyncIterator[MoodyServer]:
    """A healthy server."""
    server = MoodyServer()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that all users may enter, unlike `tmp_path`."""
    with tempfile.TemporaryDirectory(prefix="everyday-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The figures of a long run."""
    if figures and os.environ.get("EVERYDAY") == "long":
        terminalreporter.section("everyday runs")
        for line in figures:
            terminalreporter.line(line)
