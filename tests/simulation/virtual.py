"""An event loop whose time is virtual: when nothing is ready, it goes to the next timer at once.

Threads live in real time: while `elsewhere` says that one has work, the loop waits for it, and its
time stands still.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable
from typing import Any, Protocol

#: Real seconds that a thread may take for one answer.
PATIENCE = 30.0


class Net(Protocol):
    """Where connections go instead of the kernel."""

    async def connect(
        self, make: Callable[[], asyncio.BaseProtocol], address: str, port: int
    ) -> tuple[asyncio.BaseTransport, asyncio.BaseProtocol]:
        """As `create_connection`."""
        ...


class _Jump(selectors.SelectSelector):
    """Waits for threads only; says how long the loop would have waited."""

    def __init__(self) -> None:
        super().__init__()
        self.slept: Callable[[float], None] = lambda _seconds: None
        self.elsewhere: Callable[[], bool] = lambda: False

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is not None and timeout <= 0:
            return super().select(0)
        waits = self.elsewhere()
        ready = super().select(PATIENCE if waits else 0)
        if waits and not ready:
            raise RuntimeError(f"a thread has not answered within {PATIENCE:g} s")
        if not ready:
            self.slept(3600.0 if timeout is None else timeout)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop that lives through days in a second."""

    def __init__(self) -> None:
        """Begin at time 1000."""
        self._now = 1000.0
        self._jump = _Jump()
        #: Set by a world whose connections are simulated.
        self.net: Net | None = None
        super().__init__(self._jump)
        self._jump.slept = self._advance

    def time(self) -> float:
        """Virtual seconds."""
        return self._now

    def wait_for(self, elsewhere: Callable[[], bool]) -> None:
        """Let time stand still while `elsewhere` is true; a thread then has to call back."""
        self._jump.elsewhere = elsewhere

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """At once and in this thread, so that a seed is repeated exactly."""
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)
        return future

    async def create_connection(
        self, protocol_factory: Any, host: Any = None, port: Any = None, **_: Any
    ) -> Any:
        """Into the simulated net: nothing here reaches the kernel's."""
        assert self.net is not None
        return await self.net.connect(protocol_factory, host, port)

    def _advance(self, seconds: float) -> None:
        self._now += seconds
