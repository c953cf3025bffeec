"""Holds one tenant's mail at one upstream, because a provider has paused the tenant, or cannot be
told which tenant it is. Other tenants' mail continues; the tenant's uses the next upstream of its
route, or stays queued.

A hold ends after the time that the upstream named, or some minutes; then one message of the tenant
is tried. Nothing here survives a restart: the first refusal after it holds again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import structlog

from mailrelay_gateway.contract.files import GatewayConfig
from mailrelay_gateway.message.effect import LONGEST_PAUSE, HoldScope
from mailrelay_gateway.message.envelope import Attempt, Outcome
from mailrelay_gateway.queue.item import Job
from mailrelay_gateway.queue.turns import Turns

log = structlog.get_logger()

#: Seconds until a tenant's mail is tried again, unless the reply says when.
TENANT_PAUSE = 600.0
#: Holds at a time, the oldest released first: a namespace at an upstream each.
MAX_HOLDS = 10_000


class TenantHolds:
    """The holds of one gateway's queue."""

    def __init__(
        self,
        turns: Turns,
        *,
        loop: asyncio.AbstractEventLoop,
        give_back: Callable[[Sequence[Job]], None],
        changed: Callable[[], None],
    ) -> None:
        """`give_back` returns leases of jobs that may not start; `changed` is called when others
        may start.
        """
        self._turns = turns
        self._loop = loop
        self._give_back = give_back
        self._changed = changed
        self._senders: dict[str, set[str]] = {}  # UIDs by namespace, as configured
        self._holds: dict[HoldScope, tuple[set[str], asyncio.TimerHandle]] = {}

    def configure(self, config: GatewayConfig) -> None:
        """Know the senders of each namespace. What is held stays so, except at upstreams that are
        gone: the turns have forgotten it, too.
        """
        names = {upstream.name for upstream in config.relay.upstreams}
        for scope in [one for one in self._holds if one.upstream not in names]:
            _, timer = self._holds.pop(scope)
            timer.cancel()
        self._senders = {}
        for sender in config.senders:
            self._senders.setdefault(sender.namespace, set()).add(sender.uid)

    def hold(self, attempt: Attempt, outcome: Outcome) -> None:
        """The upstream refused the mail of the attempt's tenant."""
        identity = attempt.message.identity
        scope = HoldScope.of(outcome.scope, upstream=attempt.upstream, namespace=identity.namespace)
        known, timer = self._holds.pop(scope, (set(), None))
        if timer is not None:
            timer.cancel()
        senders = {identity.uid, *known, *self._senders.get(identity.namespace, ())}
        seconds = min(outcome.retry_after or TENANT_PAUSE, LONGEST_PAUSE)
        self._holds[scope] = (senders, self._loop.call_later(seconds, self._over, scope))
        if len(self._holds) > MAX_HOLDS:
            self._over(next(iter(self._holds)))
        if senders == known:
            return
        log.warning(
            "tenant_held",
            upstream=scope.upstream,
            sender_namespace=identity.namespace,
            reason=outcome.reason,
            detail=str(outcome.reply) if outcome.reply is not None else outcome.detail,
            seconds=round(seconds, 1),
        )
        self._give_back(self._turns.send_away(scope.upstream, senders, self._loop.time()))
        self._changed()

    def release(self, upstream: str) -> None:
        """The upstream is to be asked again for everybody."""
        for scope in [one for one in self._holds if one.upstream == upstream]:
            self._over(scope)

    def stop(self) -> None:
        """Release nothing any more."""
        for _, timer in self._holds.values():
            timer.cancel()

    def _over(self, scope: HoldScope) -> None:
        senders, timer = self._holds.pop(scope)
        timer.cancel()
        log.info("tenant_released", upstream=scope.upstream, sender_namespace=scope.namespace)
        self._turns.take_back(scope.upstream, senders, self._loop.time())
        self._changed()
