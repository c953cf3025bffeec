"""Captured mail for the admin port; each query runs in the store's own thread."""

from __future__ import annotations

from typing import Any

from mailrelay_gateway.couriers.sandbox.courier import SandboxCourier


class CapturedMail:
    """The sandbox's captured mail."""

    def __init__(self, sandbox: SandboxCourier) -> None:
        """Read from this courier's store."""
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
        """Delete all messages; returns their number."""
        return await self._sandbox.run(lambda store: store.clear())
