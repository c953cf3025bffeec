"""What the measurements make and wait for: namespaces, MailRelays, MailSenders."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from mailrelay_operator.cluster.kube import Kube
from mailrelay_operator.cluster.port import MAIL_SENDER
from tests.models.manifests import mail_relay, mail_sender

HERE = "scale"
#: MailSenders of one namespace where all are hostile.
TOGETHER = 100


def relay(name: str = "out", **spec: Any) -> dict[str, Any]:
    return mail_relay(name, HERE, **({"queue": {"ephemeral": {}}} | spec))


def sender(
    name: str, *, relay: str = "out", namespace: str = HERE, hostile: bool = False
) -> dict[str, Any]:
    addresses = [f"{name}@example.com"]
    metadata: dict[str, Any] = {}
    if hostile:  # as long as may be, and nothing that could be compressed
        addresses = [
            f"{secrets.token_hex(32)}@{secrets.token_hex(31)}.{secrets.token_hex(31)}"
            f".x{secrets.token_hex(31)[1:]}"  # a last label begins with a letter
            for _ in range(64)
        ]
        metadata["annotations"] = {"example.com/noise": secrets.token_hex(10 * 1024)}
    reference = {"name": relay, "namespace": HERE}
    return mail_sender(name, namespace, metadata, **{"relayRef": reference, "from": addresses})


def space(name: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name, "labels": {"mailrelay-e2e": "true"}},
    }


async def ready(cluster: Kube, count: int) -> bool:
    found, _ = await cluster.list(MAIL_SENDER, HERE)
    good = sum(
        any(
            one["type"] == "Ready" and one["status"] == "True"
            for one in (each.get("status") or {}).get("conditions") or ()
        )
        for each in found
    )
    return good >= count


async def create_all(cluster: Kube, manifests: Iterable[dict[str, Any]]) -> None:
    limit = asyncio.Semaphore(16)

    async def one(manifest: dict[str, Any]) -> None:
        async with limit:
            await cluster.create(manifest)

    await asyncio.gather(*(one(manifest) for manifest in manifests))


async def until(
    holds: Callable[[], Awaitable[bool]], seconds: float, *, every: float = 0.2
) -> float:
    began = time.monotonic()
    while not await holds():
        if time.monotonic() - began > seconds:
            raise SystemExit(f"not within {seconds:g} s")
        await asyncio.sleep(every)
    return time.monotonic() - began
