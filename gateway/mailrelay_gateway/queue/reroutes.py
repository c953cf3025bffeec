"""Moves queued recipients from routes that the configuration does not have to those that it has,
page by page; after a change of the routes it reviews the whole queue once.

The stale routes are determined again before each page: it may be called at any time, and calling it
too often costs nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Set

import structlog

from mailrelay_gateway.message.route import Choose, Route
from mailrelay_gateway.policy.routing import UNROUTED
from mailrelay_gateway.queue.store import Backlog, QueueStore, Rerouted
from mailrelay_gateway.queue.turns import Turns
from mailrelay_gateway.reasons import Reason
from mailrelay_gateway.smtp.refusal import Problem

log = structlog.get_logger()

#: Recipients that are moved to another route in one transaction: a few milliseconds.
PAGE = 500
#: Seconds until a failed page is retried.
AGAIN = 30.0
#: Seconds until recipients that the last page skipped are looked at again: they became READY
#: meanwhile.
PAUSE = 1.0
#: Seconds for which a configuration must be in effect before recipients that are pinned to an
#: upstream that is not in it are moved: it might be reverted at once.
PINNED_GRACE = 60.0


def stale_routes(
    waiting: Iterable[Route], *, valid: Set[Route], names: Collection[str], pinned_too: bool
) -> list[Route]:
    """Those of the routes with queued mail that are not in the configuration. A pinned one is stale
    if its upstream is gone, and only with `pinned_too`. Pure.
    """
    return [
        route
        for route in waiting
        if route not in valid
        and (not route.pinned or (pinned_too and route.upstreams[0] not in names))
    ]


class Reroutes:
    """The pages of one gateway's queue."""

    def __init__(
        self,
        store: QueueStore,
        turns: Turns,
        *,
        loop: asyncio.AbstractEventLoop,
        found: Callable[[Backlog, int], None],
        done: Callable[[], None],
    ) -> None:
        """`found` is called with what has become READY on another route; `done` at the end of a
        run.
        """
        self._store = store
        self._turns = turns
        self._loop = loop
        self._found = found
        self._done = done
        self._valid: Set[Route] = frozenset()
        self._names: Collection[str] = ()
        self._choose: Choose = lambda _sketch: UNROUTED
        self._reviews = 0  # how many times the whole queue must still be reviewed
        self._reviewing = False  # the current or last page belongs to a review
        self._since = 0.0  # that configuration's, in the loop's time
        self._busy = False
        self._again = False  # requested while a page was in progress
        self._timer: asyncio.TimerHandle | None = None
        self._stopped = False

    def configure(
        self, valid: Set[Route], names: Collection[str], choose: Choose, *, review: bool = False
    ) -> None:
        """The routes and upstreams of the current configuration; `review`: queued recipients may
        have another route now, although the configuration still has their old one.
        """
        self._valid, self._names, self._choose = valid, names, choose
        self._since = self._loop.time()
        if review:  # a review under way used the old routes
            self._reviews = 1 + (self._reviews > 0)
        self.check()

    def stop(self) -> None:
        """Start no further page."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()

    def check(self) -> None:
        """Start a page if there is anything to do; if one is in progress, after it."""
        if self._stopped:
            return
        if self._busy:
            self._again = True
            return
        grace = self._since + PINNED_GRACE - self._loop.time()
        stale = self._stale(pinned_too=grace <= 0)
        if stale:
            self._turns.mark_stale(stale, self._loop.time())
            self._busy, self._reviewing = True, False
            self._store.reroute(stale, self._choose, PAGE, self._page)
            return
        if self._reviews:
            self._busy, self._reviewing = True, True
            self._store.reroute(None, self._choose, PAGE, self._page)
            return
        if self._turns.mark_stale((), self._loop.time()):
            self._done()  # they are configured again: mail on them may start
        self._check_rest()

    def _check_rest(self) -> None:
        """What was left out until its grace is over, or has come while the last page was turned."""
        grace = self._since + PINNED_GRACE - self._loop.time()
        if self._stale(pinned_too=grace <= 0):
            self._check_later(PAUSE)
        elif grace > 0 and self._stale(pinned_too=True):
            self._check_later(grace)

    def _stale(self, *, pinned_too: bool) -> list[Route]:
        return stale_routes(
            self._turns.routes(), valid=self._valid, names=self._names, pinned_too=pinned_too
        )

    def _check_later(self, seconds: float) -> None:
        if self._timer is None and not self._stopped:
            self._timer = self._loop.call_later(seconds, self._check_now)

    def _check_now(self) -> None:
        self._timer = None
        self.check()

    def _page(self, page: Rerouted | Problem) -> None:
        self._busy = False
        if isinstance(page, Problem):
            self._check_later(AGAIN)
            return
        if self._reviewing and not page.more:
            self._reviews -= 1
        if page.recipients:
            reason = Reason.ROUTES_CHANGED if self._reviewing else Reason.UPSTREAM_GONE
            log.info("rerouted", reason=reason, recipient_count=page.recipients)
        for (before, after), recipients in page.ready.items():
            self._turns.gone(before, recipients)
            self._found(after, recipients)
        if page.more or self._again or self._reviews:
            self._again = False
            self.check()
            return
        self._turns.mark_stale((), self._loop.time())
        self._done()
        self._check_rest()
