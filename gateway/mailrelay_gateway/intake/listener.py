"""One listener of the configuration, without its socket and its protocol: which clients may
connect, its sessions, and the log of those that were refused.
"""

from __future__ import annotations

import asyncio
from typing import Generic, Protocol, TypeVar

import structlog

from mailrelay_gateway.contract.stage import Stage
from mailrelay_gateway.intake.commons import Commons
from mailrelay_gateway.intake.places import Place, Places, too_many
from mailrelay_gateway.intake.settings import ListenerSettings
from mailrelay_gateway.reasons import Reason
from mailrelay_gateway.smtp.refusal import Problem, refuse

log = structlog.get_logger()

#: Alerts with which a client says that it does not trust the certificate, as OpenSSL calls them.
DISTRUST = ("UNKNOWN_CA", "UNKNOWN CA", "CERTIFICATE_UNKNOWN", "CERTIFICATE UNKNOWN")
#: Client addresses for which the result of `admits` is cached: a few nodes' worth of pods.
ADMITTED_LIMIT = 4096

S = TypeVar("S", bound=ListenerSettings)


class Guest(Protocol):
    """A session, as its listener knows it."""

    client: str  # its IP address
    place: Place | None

    def make_room(self) -> None:
        """End, to make room for another session."""

    def say_goodbye(self) -> None:
        """End as soon as the session is idle: the gateway is stopping."""

    def abort(self) -> None:
        """End at once."""


class OpenListener(Generic[S]):
    """A listener of the configuration and its sessions."""

    def __init__(self, settings: S, commons: Commons) -> None:
        """Without a port yet."""
        self.settings = settings
        self.name = settings.name
        self.sessions: set[Guest] = set()
        self._commons = commons
        self.places = Places(commons.caps, commons.tally)
        self._admitted: dict[str, bool] = {}  # what `admits` found with the present settings
        self._empty: asyncio.Future[None] | None = None  # someone waits for the last session
        self._accepted = commons.metrics.connections_total(self.name, "accepted")
        self._connections = commons.metrics.connections(self.name)

    def configure(self, settings: S) -> None:
        """Use these settings from now on: sessions see them at their next transaction."""
        self.settings = settings
        self._admitted.clear()

    def handshake_failed(self, client: str, error: BaseException) -> None:
        """Count and log a handshake that did not succeed."""
        metrics = self._commons.metrics
        metrics.tls_handshakes(self.name, "failed").inc()
        detail = str(error) or type(error).__name__
        if any(alert in detail.upper() for alert in DISTRUST):
            detail = f"The client does not trust the certificate: give it ca.crt ({detail})"
        self.refused(Stage.STARTTLS, Reason.TLS_FAILED, client, detail)

    def no_place(self, client: str, why: str) -> None:
        """Count and log a connection that got no place, or lost it, before TLS."""
        self._commons.metrics.connections_total(self.name, "refused").inc()
        self.refused(Stage.CONNECT, Reason.TOO_MANY_CONNECTIONS, client, why)

    def refused(self, stage: Stage, reason: Reason, client: str, detail: str) -> None:
        """Count and log what ended without a reply to the client."""
        self._commons.metrics.rejected(self.name, stage, reason).inc()
        account = self._commons.ledger.of(client)
        if account.may_log(self._commons.loop.time()):
            log.info(
                "refused",
                reason=reason,
                stage=stage,
                listener=self.name,
                client=client,
                detail=detail,
            )
        else:
            account.unlogged += 1

    def admits(self, client: str) -> bool:
        """Whether a client's address may use this listener."""
        found = self._admitted.get(client)
        if found is None:
            if len(self._admitted) >= ADMITTED_LIMIT:
                self._admitted.clear()
            found = self._admitted[client] = self.settings.admits(client)
        return found

    def enter(self, session: Guest) -> Problem | None:
        """Count a session that connected, or return why it may not stay."""
        metrics, place = self._commons.metrics, session.place
        problem: Problem | None = None
        if not self.admits(session.client):
            problem = refuse(Reason.CLIENT_NOT_ALLOWED, "greeting")
        elif place is None:
            found = self.places.take(
                session.client, session.make_room, stranger=self.settings.auth_required
            )
            if isinstance(found, Place):
                session.place = found
            else:
                problem = too_many(found)
        else:
            place.evict = session.make_room
        if problem is not None:
            if place is not None:
                place.give_back()
            metrics.connections_total(self.name, "refused").inc()
            return problem
        self.sessions.add(session)
        self._accepted.inc()
        self._connections.inc()
        return None

    def leave(self, session: Guest) -> None:
        """A session that was counted has ended."""
        if session not in self.sessions:
            return
        self.sessions.discard(session)
        if session.place is not None:
            session.place.give_back()
        if self._empty is not None and not self.sessions and not self._empty.done():
            self._empty.set_result(None)
        self._connections.dec()

    async def wait_until_empty(self) -> None:
        """Wait until the last session has ended."""
        if self.sessions:
            self._empty = self._commons.loop.create_future()
            await self._empty
