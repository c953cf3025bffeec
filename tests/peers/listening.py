"""What every server of the tests has in common: a free port of loopback, and connections that end
with it.
"""

from __future__ import annotations

import abc
import asyncio
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self


@dataclass(eq=False)
class ListeningPeer(abc.ABC):
    """Begins and ends with `async with`, so that a test that fails leaves no port open behind."""

    port: int = field(default=0, init=False)
    limit: int = field(default=1 << 20, init=False)  # octets of a line, or of what is awaited whole
    _server: asyncio.Server | None = field(default=None, init=False)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set, init=False)

    @abc.abstractmethod
    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Hold one connection's conversation; the connection is closed at its end."""

    async def start(self) -> None:
        """Listen on a free port of 127.0.0.1."""
        self._server = await asyncio.start_server(
            self._serve, "127.0.0.1", 0, limit=self.limit, backlog=1000
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening, and hang up. May be called again, and without a start."""
        if self._server is None:
            return
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def __aenter__(self) -> Self:
        """Start."""
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop."""
        await self.stop()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self.converse(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client is gone, or the test is over
        finally:
            self._tasks.discard(task)
            writer.close()


class SilentServer(ListeningPeer):
    """Accepts connections and leaves it at that."""

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Hear, and say nothing."""
        while await reader.read(65536):
            pass
