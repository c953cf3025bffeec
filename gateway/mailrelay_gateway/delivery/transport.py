"""Opens a session with an upstream: its hosts in order, the addresses of each, until one says that
MAIL may come.

Foreign errors (sockets, DNS) become a Failure here and nowhere else. What was learnt about hosts is
handed back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from mailrelay_gateway.config import HostPort
from mailrelay_gateway.delivery.classify import Ending, Failure
from mailrelay_gateway.delivery.connection import Connection
from mailrelay_gateway.delivery.deadlines import Deadlines
from mailrelay_gateway.delivery.resolver import Resolver, Unresolved
from mailrelay_gateway.reasons import Reason
from mailrelay_gateway.smtp.client_states import Phase


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """What came of it: a connection that is ready, or the failure that says most. `failed` names
    the bad hosts.
    """

    connection: Connection | None
    failure: Failure | None
    failed: Sequence[HostPort]


#: Makes the connection for (host, address); it is not yet connected.
Make = Callable[[HostPort, str], Connection]


async def open_session(
    hosts: Sequence[HostPort], *, resolver: Resolver, deadlines: Deadlines, make: Make
) -> Opening:
    """Try the hosts in order. Cancelling it leaves no connection behind."""
    failures: list[tuple[HostPort, Failure]] = []
    for host in hosts:
        found = await _open_host(host, resolver=resolver, deadlines=deadlines, make=make)
        if isinstance(found, Connection):
            failed = [bad for bad, _ in failures]
            return Opening(connection=found, failure=None, failed=failed)
        failures.append((host, found))
        if found.reason is Reason.UPSTREAM_AUTH_FAILED:
            break  # the login is the same for all hosts, and each try brings a lock-out nearer
    # The failure that got furthest says most: a refused login rather than the dead host before it.
    worst = max((failure for _, failure in failures), key=lambda failure: failure.phase)
    detail = "; ".join(f"{host.host}:{host.port} {failure.detail}" for host, failure in failures)
    return Opening(
        connection=None,
        failure=replace(worst, detail=detail),
        failed=[host for host, _ in failures],
    )


async def _open_host(
    host: HostPort, *, resolver: Resolver, deadlines: Deadlines, make: Make
) -> Connection | Failure:
    try:
        async with asyncio.timeout(deadlines.resolve):
            addresses = await resolver.addresses(host.host)
    except Unresolved as error:
        return Failure(Phase.RESOLVE, Reason.UPSTREAM_UNRESOLVED, f"has no address: {error}")
    except TimeoutError:
        detail = f"has no address: no answer from DNS within {deadlines.resolve:g} s"
        return Failure(Phase.RESOLVE, Reason.UPSTREAM_UNRESOLVED, detail)
    worst: Failure | None = None
    for address in addresses:
        found = await _open_address(make(host, address), address, host.port, deadlines)
        if isinstance(found, Connection):
            return found
        if worst is None or found.phase >= worst.phase:
            worst = found
        if found.reason is Reason.UPSTREAM_AUTH_FAILED:
            break
    assert worst is not None  # a resolver gives at least one address
    return worst


async def _open_address(
    connection: Connection, address: str, port: int, deadlines: Deadlines
) -> Connection | Failure:
    """Connect by address, then wait for the connection's verdict; it has deadlines of its own."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(deadlines.connect):
            await loop.create_connection(lambda: connection, address, port)
    except TimeoutError:
        detail = f"does not answer at {address} within {deadlines.connect:g} s"
        return Failure(Phase.CONNECT, Reason.UPSTREAM_UNREACHABLE, detail)
    except OSError as error:
        detail = f"cannot be reached at {address}: {error.strerror or error}"
        return Failure(Phase.CONNECT, Reason.UPSTREAM_UNREACHABLE, detail)
    try:
        failure = await connection.ready
    except asyncio.CancelledError:
        connection.abort(Ending.STOPPED)
        raise
    return connection if failure is None else failure
