"""Fixtures of the tests that talk to real listeners."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import uvloop

from tests.integration.intake.gate import Gate, open_gate


@pytest.fixture
async def gate(tmp_path: Path) -> AsyncIterator[Gate]:
    """Running listeners with the usual configuration."""
    async with open_gate(tmp_path) as opened:
        yield opened


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Every test runs on both loops: STARTTLS and flow control are each loop's own code."""
    return {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.SelectorEventLoop}
