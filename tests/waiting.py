"""How a test waits: for a fact, never for a time. One bound serves all, so that a machine that is
busy with something else makes a test slow, and not wrong.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

#: Seconds for what takes milliseconds when nothing else runs. A test has 300 in all.
PATIENCE = 60.0


async def until(
    question: Callable[[], object | Awaitable[object]],
    what: str = "",
    *,
    seconds: float = PATIENCE,
) -> None:
    """Return once the answer, awaited if it can be, is true."""
    try:
        async with asyncio.timeout(seconds):
            while True:
                answer = question()
                awaited = inspect.isawaitable(answer)
                if await answer if awaited else answer:  # type: ignore[misc]
                    return
                # A plain question costs nothing; another one asks a process.
                await asyncio.sleep(0.02 if awaited else 0.005)
    except TimeoutError:
        raise AssertionError(_late(question, what, seconds)) from None


def wait_until(question: Callable[[], T | None], what: str = "", *, seconds: float = PATIENCE) -> T:
    """The first true answer, without an event loop."""
    ends = time.monotonic() + seconds
    while not (answer := question()):
        assert time.monotonic() < ends, _late(question, what, seconds)
        time.sleep(0.02)
    return answer


def _late(question: Callable[[], object], what: str, seconds: float) -> str:
    if not what:
        try:
            what = inspect.getsource(question).strip()
        except (OSError, TypeError):
            what = repr(question)
    return f"not within {seconds:g} s: {what}"
