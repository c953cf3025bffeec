"""Captured mail as the admin port asks for it: each question is put to the store's own thread."""

from __future__ import annotations

from typing import Any

from mailrelay_gateway.couriers.sandbox.courier import SandboxCourier


class CapturedMail:
    """What the sandbox lets people see."""

    def __init__(self, sandbox: SandboxCourier) -> None:
        """Ask this one's store."""
        self._sandbox = sandbox

    async def newest(self, limit: int) -> list[dict[str, Any]]:
        """The newest messages, without bodies."""
        return await self._sandbox.run(lambda store: store.newest(limit))

    async def one(self, number: int) -> dict[str, Any] | None:
        """One message."""
        return await self._sandbox.run(lambda store: store.one(number))

    async def raw(self, number: int) -> bytes | None:
        """One message's octets."""
        return await self._sandbox.run(lambda store: store.raw(number))

    async def clear(self) -> int:
        """Forget all."""
        return await self._sandbox.run(lambda store: store.clear())
