"""The connections to one upstream: how many there are, when they are opened, and whether the
upstream is held.

The queue is asked for work at each decision; the answer is never remembered: whatever happens to a
connection, the next decision sees what is ready. The conclusions are drawn elsewhere, in pure
modules: when to open in `openings`, the health in `health`, when silence is a stall in
`stall_watch`, whose fault a refusal is in `breaker` and `barren`. One timer makes the pool decide
again at the earliest moment that one of them named.
"""

from __future__ import annotations

import asyncio

import structlog

from mailrelay_gateway.contract.documents import Upstream
from mailrelay_gateway.contract.stage import Stage
from mailrelay_gateway.contract.status import UpstreamState, UpstreamStatus
from mailrelay_gateway.couriers.replies.verdict import Failure, Verdict
from mailrelay_gateway.couriers.smtp import barren, telling
from mailrelay_gateway.couriers.smtp.alarm import Alarm
from mailrelay_gateway.couriers.smtp.breaker import Breaker, judge
from mailrelay_gateway.couriers.smtp.connection import Connection
from mailrelay_gateway.couriers.smtp.connection_settings import Naming
from mailrelay_gateway.couriers.smtp.former import Former
from mailrelay_gateway.couriers.smtp.health import Action, Happening, Health, pause, rest, step
from mailrelay_gateway.couriers.smtp.opener import Opener
from mailrelay_gateway.couriers.smtp.openings import Plan, Scene, plan_opening
from mailrelay_gateway.couriers.smtp.restraint import Restraint
from mailrelay_gateway.couriers.smtp.sender_faults import SenderFaults, unattributable_outcomes
from mailrelay_gateway.couriers.smtp.shortage import Shortage
from mailrelay_gateway.couriers.smtp.slowing import Slowing
from mailrelay_gateway.couriers.smtp.stall_watch import StallWatch
from mailrelay_gateway.couriers.smtp.stalls import Waiting
from mailrelay_gateway.couriers.smtp.surroundings import Surroundings
from mailrelay_gateway.couriers.smtp.transport import Opened, Opening
from mailrelay_gateway.message.effect import Cap, Effect, Split
from mailrelay_gateway.message.envelope import Attempt, Message, Outcome
from mailrelay_gateway.message.lane import LaneKey
from mailrelay_gateway.reasons import Reason
from mailrelay_gateway.smtp.client.events import Transcript

log = structlog.get_logger()

# A look-up in an enum is slow (Python 3.11), and each message asks for these.
_UP, _END_OF_MESSAGE = UpstreamState.UP, Stage.END_OF_MESSAGE

_LOST_AT_ONCE = Failure(
    Stage.EHLO, Reason.UPSTREAM_REFUSED, "closed the connection as soon as it was ready"
)


class Pool:
    """The connections to one upstream. Implements `owner.Owner`. Lives in one event loop."""

    def __init__(self, upstream: Upstream, naming: Naming, surroundings: Surroundings) -> None:
        """Open nothing yet."""
        self.name = upstream.name
        self._lane = LaneKey(upstream.name)
        self._around = surroundings
        self._loop = asyncio.get_running_loop()
        self._opener = Opener(
            upstream,
            naming,
            surroundings,
            self,
            on_no_token=self._no_token,
            on_token=self._token_again,
        )
        self._most = upstream.connections
        self._most_recipients = upstream.max_recipients
        self._health = Health(since=surroundings.clock())
        self._breaker = Breaker()
        self._barren = barren.Barren()
        self._restraint = Restraint(self._lane, surroundings)
        self._shortage = Shortage()
        self._slowing = Slowing()
        self._sender_faults = SenderFaults()
        #: Opened and not yet closed: with the openings under way, at most `connections`.
        self._connections: set[Connection] = set()
        self._former = Former(self._count)  # they do not count any more
        self._idle: list[Connection] = []
        self._openings: dict[asyncio.Task[None], Opening] = {}
        self._empty = asyncio.Event()  # there is no connection and no opening left
        self._empty.set()
        self._probe_at = 0.0  # while held, in the loop's time
        self._failed_at = 0.0  # when an opening last failed
        self._stall_watch = StallWatch(surroundings.deadlines.stall)
        self._alarm = Alarm(self._loop, self._decide)
        self._decision_due = False
        self._stopping = False

    def __repr__(self) -> str:
        """Name, state, and the number of connections by activity."""
        return (
            f"<Pool {self.name} {self._health.state} connections={len(self._connections)}"
            f" idle={len(self._idle)} openings={len(self._openings)}>"
        )

    # --- what the courier does

    def wake(self) -> None:
        """An attempt may be ready. May be called within `Work.take`: nothing is started here."""
        self._decide_soon()

    def configure(self, upstream: Upstream, naming: Naming) -> None:
        """Use new settings. If they change how to reach the upstream, start over at once:
        connections finish the message that they are sending and close, and an upstream that is held
        is probed.
        """
        self._most = upstream.connections
        self._most_recipients = upstream.max_recipients
        if self._opener.configure(upstream, naming):
            for connection in self._connections:
                connection.retire()  # those that are idle leave at once
            self._former.take_over(self._connections, self._breaker)
            self._connections.clear()
            self._breaker = Breaker()
            self._barren = barren.Barren()
            self._restraint.forget()
            self._slowing = Slowing()
            self._sender_faults.forget()
            self._stall_watch.expect(self._around.deadlines.stall)
            for opening in self._openings:
                opening.cancel()
            self._happened(Happening.CHANGED)
        self._decide_soon()

    def status(self) -> UpstreamStatus:
        """The upstream's status, for `/status`."""
        faults = self._sender_faults.told(self._around.clock())
        return telling.status(self.name, self._health, faults)

    async def stop(self, grace: float) -> None:
        """Start nothing new, give running transactions `grace` seconds, then abort what is left."""
        self._stopping = True
        self._opener.stop()
        self._alarm.stop()
        for opening in self._openings:
            opening.cancel()
        for connection in [*self._connections, *self._former.connections]:
            connection.retire()
        try:
            async with asyncio.timeout(grace):
                await self._empty.wait()
        except TimeoutError:
            for connection in [*self._connections, *self._former.connections]:
                connection.abort()
            try:
                async with asyncio.timeout(self._around.deadlines.quit):
                    await self._empty.wait()
            except TimeoutError:
                log.warning("upstream_connections_not_closed", upstream=self.name)

    # --- what connections say (connection.Owner)

    @property
    def recipients_cap(self) -> int | None:
        """See Owner."""
        heard = self._restraint.recipients(self._loop)
        if heard is None or self._most_recipients is None:
            return heard or self._most_recipients
        return min(heard, self._most_recipients)

    def connection_idle(self, connection: Connection) -> None:
        """See Owner."""
        self._idle.append(connection)

    def connection_leaving(self, connection: Connection) -> None:
        """See Owner."""
        if connection in self._idle:
            self._idle.remove(connection)

    def connection_closed(self, connection: Connection) -> None:
        """See Owner."""
        self.connection_leaving(connection)
        if connection in self._connections:
            self._connections.remove(connection)
            self._note_fruit(connection)
            self._count()
            self._decide_soon()

    def backlog(self) -> None:
        """See Owner. Called for every message of a busy connection: a few comparisons at most."""
        if self._idle or len(self._connections) + len(self._openings) < self._most:
            self._decide_soon()

    def judge(self, connection: Connection, verdict: Verdict, message: Message) -> Verdict:
        """See Owner."""
        self._breaker, judged = judge(
            self._breaker, verdict, sender=message.identity.uid, message=message.queue_id
        )
        judged = self._slowing.judge(judged, message.identity.uid, self._breaker.seen)
        self._sender_faults.note(judged, message, self._around.clock())
        if not connection.completed:
            if barren.fruitful(judged):
                connection.fruitful = True
            elif self._barren.count:
                judged = barren.blame(self._barren, judged)
        return judged

    def unattributable(self, attempt: Attempt, detail: str) -> list[Outcome]:
        """See Owner."""
        self._sender_faults.note_unattributable(attempt.message, detail, self._around.clock())
        return unattributable_outcomes(attempt, detail)

    def mail_accepted(self, passed: Stage) -> None:
        """See Owner. Said for every message, and nearly always no news."""
        if self._health.state is not _UP or self._health.failures:
            self._happened(Happening.ACCEPTED, passed=passed)
        if passed is _END_OF_MESSAGE:
            self._restraint.slowed = False

    def login_refused(self, failure: Failure) -> None:
        """See Owner."""
        self._opener.login_refused(failure)
        self._happened(Happening.LOGIN_REFUSED, failure)
        for connection in list(self._connections):
            connection.retire()

    def heed(self, verdict: Verdict, transcript: Transcript) -> None:
        """See Owner. Called for every message, and nearly always without consequence."""
        if verdict.effect is not None:
            self._hear(verdict.effect, verdict.retry_after)
        if len(verdict.meanings) > 1 and any(
            isinstance(meaning.effect, Split) for meaning in verdict.meanings
        ):
            replies = transcript.recipients
            taken = sum(reply is not None and reply.code < 400 for reply in replies)
            self._restraint.split(taken, self._loop.time())

    def _hear(self, effect: Effect, retry_after: float | None) -> None:
        if not self._stopping:  # the name may belong to another pool by now
            self._restraint.hear(effect, retry_after, len(self._connections), self._loop.time())

    # --- deciding

    def _decide_soon(self) -> None:
        """Decide once the callbacks of this iteration are done: a connection that just finished may
        take the work itself.
        """
        if not self._decision_due and not self._stopping:
            self._decision_due = True
            self._loop.call_soon(self._decide)

    def _decide(self) -> None:
        """Give the work to idle connections; open another one if there are too few; check whether
        the upstream has stalled.
        """
        self._decision_due = False
        if self._stopping:
            return
        work, lane = self._around.work, self._lane
        while self._idle and work.ready(lane):
            self._idle.pop().next()
        ready = work.ready(lane)
        now = self._loop.time()
        while (plan := self._plan(ready, now)).open:
            if self._health.state is UpstreamState.HELD:
                # Unless it fails before, and sets the time of the next one.
                self._probe_at = now + self._pause()
            self._open()
        self._look_again(plan.again)
        if ready and self._health.state is not UpstreamState.HELD:
            self._watch(now)
        if self._health.stalled:
            self._listen(now)
        elif not ready:
            self._await_turn(now)

    def _await_turn(self, now: float) -> None:
        """Nothing may start: decide again when the lane's pause ends, on a clock that rounds."""
        moment = self._around.work.not_before(self._lane)
        if moment is not None:
            self._look_again(now + max(0.001, moment - self._around.clock()))
        elif self._around.work.ready(self._lane):  # it has ended just now, between two calls
            self._decide_soon()

    def _plan(self, ready: bool, now: float) -> Plan:
        held = self._health.state is UpstreamState.HELD
        places, lifted_at = self._restraint.places(self._most, now)
        plan = plan_opening(
            Scene(
                now=now,
                ready=ready,
                held=held,
                probe_at=self._probe_at,
                places=self._most if held else places,
                connections=len(self._connections),
                began=[opening.began_at for opening in self._openings.values()],
                not_before=self._shortage.or_after(
                    barren.not_before(self._barren, self._around.probing)
                ),
                slowed=self._restraint.slowed,
                stagger=self._around.deadlines.stagger,
            )
        )
        if plan.full:
            self._look_again(lifted_at)
        return plan

    def _look_again(self, when: float | None) -> None:
        """Decide again at `when`, or sooner if that was asked before."""
        if not self._stopping:
            self._alarm.ask(when)

    # --- stalls

    def _waiting(self) -> tuple[list[Waiting], list[Waiting]]:
        """Everything that waits for the upstream: connections, and openings."""
        busy = [connection.waiting for connection in self._connections]
        return busy, [opening.waiting for opening in self._openings.values()]

    def _watch(self, now: float) -> None:
        """There is work, and no connection is free: if none makes progress, the upstream has
        stalled.
        """
        found = self._stall_watch.watch(self._waiting, now)
        if isinstance(found, Failure):
            self._happened(Happening.STALLED, found)
        else:
            self._look_again(found)

    def _listen(self, now: float) -> None:
        """It has stalled: has one made progress?"""
        again = self._stall_watch.listen(self._waiting(), now)
        if again is not None:
            self._look_again(again)
            return
        self._happened(Happening.HEARD)
        self._decide_soon()

    # --- opening

    def _open(self) -> None:
        if self._opener.defect is not None:
            self._failed(self._loop.time(), self._opener.defect)
            return
        opening = self._opener.begin()
        task = self._loop.create_task(self._run(opening))
        self._openings[task] = opening
        task.add_done_callback(self._opening_ended)
        self._empty.clear()

    def _opening_ended(self, task: asyncio.Task[None]) -> None:
        """Whatever the result; a cancelled one may never have started."""
        self._openings.pop(task, None)
        self._count()
        self._decide_soon()

    async def _run(self, opening: Opening) -> None:
        try:
            opened = await opening.run()
        except Exception as error:
            if self._shortage.noted(self.name, error, self._loop.time()):
                return
            # A defect of ours must not end the pool: hold, log, retry.
            log.exception("internal_error", upstream=self.name)
            words = f"{type(error).__name__}: {error}"
            opened = Opened(failure=Failure(Stage.CONNECT, Reason.INTERNAL_ERROR, words))
        # Nothing is awaited from here on: it was not cancelled.
        self._shortage.over()
        self._openings = {
            task: other for task, other in self._openings.items() if other is not opening
        }
        self._opener.learn(opened)
        connection = opened.connection
        if connection is not None and connection.usable:
            self._connections.add(connection)
            connection.opened(self._loop.time() - opening.began_at)
            self._idle.append(connection)
            self._happened(Happening.OPENED)
            self._decide()
        else:
            self._failed(opening.began_at, opened.failure or _LOST_AT_ONCE)

    def _failed(self, began_at: float, failure: Failure) -> None:
        """No session. What was started before the last failure tells nothing new about an upstream
        that is held: one outage is one failure, however many openings see it.
        """
        health = self._health
        now = self._loop.time()
        before, self._failed_at = self._failed_at, now
        held = health.state is UpstreamState.HELD
        if held and not health.stalled and began_at < before:
            return
        if failure.effect is not None and not isinstance(failure.effect, Cap):
            self._hear(failure.effect, failure.retry_after)
        if not self._connections:
            self._happened(Happening.FAILED, failure)
        elif held or failure.reason is not Reason.UPSTREAM_TIMEOUT:
            # Silence is not a refusal: the next one may succeed, and there is room for it.
            self._restraint.cap(len(self._connections), now)
            self._happened(Happening.FAILED_EXTRA, failure)

    def _no_token(self, failure: Failure) -> None:
        """No login is possible now. With mail in the queue the next opening shows it; without, it
        is known before there is any. Open sessions continue.
        """
        idle = not self._connections and not self._openings
        if idle and self._health.state is not UpstreamState.HELD:
            self._happened(Happening.FAILED, failure)

    def _token_again(self) -> None:
        """The cause of the hold is gone: no need to wait for the next probe."""
        if self._health.state is UpstreamState.HELD and self._health.stage is Stage.TOKEN:
            self._probe_at = self._loop.time()
            self._decide_soon()

    def _note_fruit(self, connection: Connection) -> None:
        """Whether it was of any use before the server closed it."""
        fruit = connection.completed > 0 or connection.fruitful
        if not fruit and (connection.retired or connection.parting is None):
            return  # we closed it, or it had nothing to do
        self._barren = barren.closed(
            self._barren,
            fruit=fruit,
            opened_at=connection.opened_at,
            now=self._loop.time(),
        )
        if self._barren.hold and connection.parting is not None:
            self._happened(Happening.BARREN, connection.parting)

    # --- health

    def _happened(
        self,
        happening: Happening,
        failure: Failure | None = None,
        *,
        passed: Stage = Stage.MAIL,
    ) -> None:
        before = self._health
        self._health, action = step(
            before, happening, now=self._around.clock(), failure=failure, passed=passed
        )
        match action:
            case Action.HOLD:
                assert failure is not None
                self._hold(failure)
            case Action.RELEASE:
                self._release(before)
            case Action.CAP:
                assert failure is not None
                telling.capped(self.name, len(self._connections), failure)
            case Action.PROBE:
                self._probe_at = self._loop.time()
            case Action.NOTHING:
                pass

    def _hold(self, failure: Failure) -> None:
        if self._stopping:
            return  # the name may belong to another pool, which alone may hold it
        around = self._around
        seconds = rest(failure, self._pause(), around.clock())
        self._probe_at = self._loop.time() + seconds
        telling.held(self.name, failure, seconds, around)
        self._decide_soon()

    def _pause(self) -> float:
        """Seconds until the next probe."""
        around = self._around
        return pause(max(1, self._health.failures), around.probing, around.rng.random())

    def _release(self, before: Health) -> None:
        if self._stopping:
            return  # as above
        telling.up(self.name, self._around)

    def _count(self) -> None:
        if not self._stopping:  # the upstream may no longer be configured then
            open_now = len(self._connections) + len(self._former.connections)
            self._around.metrics.upstream_connections(self.name).set(open_now)
        if not self._connections and not self._former.connections and not self._openings:
            self._empty.set()
        else:
            self._empty.clear()
