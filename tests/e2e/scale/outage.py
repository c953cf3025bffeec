"""An API server that is away, for as long as it is told: between it and the operator stands a
proxy that is cut, silent for the first half of the time and refusing for the second."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import urllib.parse
from pathlib import Path


class Proxy:
    """Hands octets on between a loopback port and the API server of a kubeconfig."""

    def __init__(self, kubeconfig: Path) -> None:
        self._config = json.loads(kubeconfig.read_text())
        at = urllib.parse.urlsplit(self._config["clusters"][0]["cluster"]["server"])
        self._host, self._port = at.hostname or "", at.port or 443
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.StreamWriter] = set()
        self._silent = False
        self.port = 0

    async def open(self) -> None:
        """Accept connections, and hand them on."""
        self._silent = False
        self._server = await asyncio.start_server(self._join, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    def silence(self) -> None:
        """Accept connections, and say nothing any more."""
        self._silent = True

    def cut(self) -> None:
        """End all connections, and refuse new ones."""
        if self._server is not None:
            self._server.close()
        for one in tuple(self._connections):
            one.transport.abort()

    def write_kubeconfig(self, path: Path) -> None:
        """The kubeconfig that leads here."""
        self._config["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{self.port}"
        path.touch(mode=0o600)
        path.write_text(json.dumps(self._config))

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        far: asyncio.StreamWriter | None = None
        try:
            far_reader, far = await asyncio.open_connection(self._host, self._port)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._copy(reader, far))
                group.create_task(self._copy(far_reader, writer))
        except* OSError:
            pass
        finally:
            self._connections.discard(writer)
            writer.transport.abort()
            if far is not None:
                far.transport.abort()

    async def _copy(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while octets := await source.read(65536):
            if not self._silent:
                target.write(octets)
                await target.drain()
        raise ConnectionResetError


async def is_alive(port: int) -> bool:
    """Whether the liveness probe, as a kubelet asks it, is answered well."""
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(5):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            head = await reader.readline()
            writer.close()
            return b" 200 " in head
    return False


def kubeconfig() -> Path:
    """The one that is in use."""
    return Path(os.environ["KUBECONFIG"])
