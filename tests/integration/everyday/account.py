"""Waiting until a gateway has nothing left, and comparing what arrived with what was sent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from tests.peers.gateway import GatewayProcess
from tests.peers.wholemail import WholeMail
from tests.waiting import PATIENCE, until


def mails(count: int, recipients: int = 1, *, octets: int = 2_000) -> list[WholeMail]:
    """So many messages; no address is in two of them."""
    return [
        WholeMail(
            name=f"m{number}",
            recipients=tuple(f"r{each}.m{number}@example.net" for each in range(recipients)),
            octets=octets,
        )
        for number in range(count)
    ]


def expected(messages: Iterable[WholeMail]) -> set[tuple[str, str]]:
    """What an account has to hold."""
    return {(mail.name, recipient) for mail in messages for recipient in mail.recipients}


def duplicates(taken: Counter[tuple[str, str]]) -> int:
    """Copies beyond the first."""
    return sum(taken.values()) - len(taken)


async def until_empty(gateway: GatewayProcess, *, seconds: float = PATIENCE) -> None:
    """Wait until nothing is queued."""

    async def is_empty() -> bool:
        return not (await gateway.status())["queue"]["messages"]

    await until(is_empty, "an empty queue", seconds=seconds)


async def nothing_left(gateway: GatewayProcess) -> None:
    """The queue is empty, nothing was given up, no body lies about, and it stops in order."""
    queue = (await gateway.status())["queue"]
    assert queue["messages"] == 0, queue
    assert gateway.log_lines("dead_letter") == []
    assert not [line for line in gateway.log_lines("delivery") if line["result"] == "failed"]
    assert await gateway.stop() == 0
    bodies = [p for p in gateway.spool.rglob("*") if p.is_file() and p.parent != gateway.spool]
    assert bodies == []


def whole(
    messages: Sequence[WholeMail], taken: Counter[tuple[str, str]], damaged: Sequence[str]
) -> None:
    """Every message is whole at every recipient, and nothing else arrived."""
    assert damaged == []
    assert set(taken) == expected(messages)
