"""The requests to one API upstream: how many there are at once, and whether the upstream is held.

As with a smarthost's pool, whether there is work is asked of the queue at each decision and never
remembered, and what follows from what is known is decided elsewhere, purely: health in `health`,
whose fault a refusal is in `breaker`, when silence is a stall in `stall_watch`.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

import structlog

from mailrelay_gateway.contract.documents import Upstream
from mailrelay_gateway.contract.stage import Stage
from mailrelay_gateway.contract.status import UpstreamState, UpstreamStatus
from mailrelay_gateway.couriers.api.attempt import (
    broken_off,
    deliver,
    failed_ourselves,
    for_all,
)
from mailrelay_gateway.couriers.api.client import ApiClient
from mailrelay_gateway.couriers.oauth2.answers import NoToken
from mailrelay_gateway.couriers.replies.verdict import Failure, Verdict
from mailrelay_gateway.couriers.smtp import telling
from mailrelay_gateway.couriers.smtp.alarm import Alarm
from mailrelay_gateway.couriers.smtp.breaker import Breaker, judge
from mailrelay_gateway.couriers.smtp.health import Action, Happening, Health, pause, rest, step
from mailrelay_gateway.couriers.smtp.report import Delays, Reporter
from mailrelay_gateway.couriers.smtp.restraint import Restraint
from mailrelay_gateway.couriers.smtp.sender_faults import SenderFaults, unattributable
from mailrelay_gateway.couriers.smtp.shortage import Shortage
from mailrelay_gateway.couriers.smtp.slowing import Slowing
from mailrelay_gateway.couriers.smtp.stall_watch import StallWatch
from mailrelay_gateway.couriers.smtp.stalls import Waiting
from mailrelay_gateway.couriers.smtp.surroundings import Surroundings
from mailrelay_gateway.egress.channel import Sending
from mailrelay_gateway.egress.client import Egress
from mailrelay_gateway.message.attribution import Unattributable
from mailrelay_gateway.message.envelope import Attempt
from mailrelay_gateway.message.lane import LaneKey

log = structlog.get_logger()


class ApiPool:
    """The requests to one API upstream. Lives in one event loop."""

    def __init__(
        self, upstream: Upstream, null_sender: str, around: Surroundings, egress: Egress
    ) -> None:
        """Send nothing yet. `null_sender` stands in for the null sender; empty: nothing does."""
        self.name = upstream.name
        self._lane = LaneKey(upstream.name)
        self._around = around
        self._egress = egress
        self._loop = asyncio.get_running_loop()
        self._reporter = Reporter(upstream.name, around.metrics)
        self._health = Health(since=around.clock())
        self._breaker = Breaker()
        self._slowing = Slowing()
        self._sender_faults = SenderFaults()
        self._shortage = Shortage()
        self._restraint = Restraint(self._lane, around)
        self._stall_watch = StallWatch(around.deadlines.stall)
        self._posts: dict[asyncio.Task[None], Sending | None] = {}
        self._began: dict[asyncio.Task[None], float] = {}
        self._probe: asyncio.Task[None] | None = None
        self._probe_at = 0.0
        self._alarm = Alarm(self._loop, self._decide)
        self._decision_due = False
        self._stopping = False
        self._take(upstream, null_sender)

    def __repr__(self) -> str:
        """Name, state, and how many requests are under way."""
        return f"<ApiPool {self.name} {self._health.state} posts={len(self._posts)}>"

    # --- what the courier does

    def wake(self) -> None:
        """An attempt may be ready. May be called within `Work.take`: nothing is begun here."""
        self._decide_soon()

    def configure(self, upstream: Upstream, null_sender: str) -> None:
        """Go by new settings. Requests under way end as they began, and what they are told counts
        for nothing else.
        """
        client = self._client
        self._take(upstream, null_sender, before=client)
        if self._client is not client:
            self._breaker = Breaker()
            self._slowing = Slowing()
            self._sender_faults.forget()
            self._restraint.forget()
            self._happened(Happening.CHANGED)
        self._decide_soon()

    def _take(self, upstream: Upstream, null_sender: str, before: ApiClient | None = None) -> None:
        self._upstream = upstream
        if before is not None:
            if before.serves(upstream, null_sender):
                return
            before.retire()
        self._client = ApiClient(
            upstream,
            self._around,
            self._egress,
            null_sender=null_sender,
            on_no_token=self._no_token,
            on_token=self._token_again,
        )

    def status(self) -> UpstreamStatus:
        """What `/status` says."""
        return telling.status(
            self.name, self._health, self._sender_faults.told(self._around.clock())
        )

    async def stop(self, grace: float) -> None:
        """Begin nothing new, give requests `grace` seconds, then break them off."""
        self._stopping = True
        self._alarm.stop()
        tasks = [*self._posts]
        if self._probe is not None:
            self._probe.cancel()
            tasks.append(self._probe)
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=grace)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late, timeout=self._around.deadlines.quit)
        await self._client.close()

    # --- deciding

    def _decide_soon(self) -> None:
        if not self._decision_due and not self._stopping:
            self._decision_due = True
            self._loop.call_soon(self._decide)

    def _decide(self) -> None:
        """Begin as many requests as there may be; probe an upstream that is held."""
        self._decision_due = False
        if self._stopping:
            return
        now = self._loop.time()
        work, lane = self._around.work, self._lane
        held = self._health.state is UpstreamState.HELD
        if held:
            self._probe_when_due(now)
        elif self._client.defect is not None:
            if work.ready(lane):
                self._happened(Happening.FAILED, self._client.defect)
            return
        elif now < self._shortage.not_before:
            self._look_again(self._shortage.not_before)
        else:
            places, lifted_at = self._restraint.places(self._upstream.connections, now)
            if self._health.failures:
                places = 1  # half open: one message finds out
            while len(self._posts) < places and self._begin():
                pass
            if len(self._posts) >= places:
                self._look_again(lifted_at)
        if self._health.stalled:
            self._listen(now)
        elif work.ready(lane):
            if not held and self._posts:
                self._watch(now)
        else:
            moment = work.not_before(lane)
            if moment is not None:
                self._look_again(now + max(0.001, moment - self._around.clock()))

    def _begin(self) -> bool:
        """Begin a request; False: there is nothing to send."""
        most = self._client.most_recipients
        if self._upstream.max_recipients is not None:
            most = min(most, self._upstream.max_recipients)
        attempt = self._around.work.take(self._lane, most)
        if attempt is None:
            return False
        task = self._loop.create_task(self._post(attempt, self._client))
        self._posts[task] = None
        self._began[task] = self._loop.time()
        task.add_done_callback(self._ended)
        self._count()
        return True

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._posts[task]
        del self._began[task]
        self._count()
        self._decide_soon()

    def _look_again(self, when: float | None) -> None:
        """Decide again at `when`, or sooner if that was asked before."""
        if not self._stopping:
            self._alarm.ask(when)

    # --- stalls

    def _waiting(self) -> tuple[list[Waiting], list[Waiting]]:
        busy = [
            Waiting(
                Stage.END_OF_MESSAGE,
                self._began[task] if sending is None else sending.moved_at,
                0.0 if sending is None or not sending.started else sending.moved_at,
            )
            for task, sending in self._posts.items()
        ]
        return busy, []

    def _watch(self, now: float) -> None:
        found = self._stall_watch.watch(self._waiting, now)
        if isinstance(found, Failure):
            self._happened(Happening.STALLED, replace(found, detail=self._named(found.detail)))
        else:
            self._look_again(found)

    def _listen(self, now: float) -> None:
        again = self._stall_watch.listen(self._waiting(), now)
        if again is not None:
            self._look_again(again)
            return
        self._happened(Happening.HEARD)
        self._decide_soon()

    # --- one attempt

    async def _post(self, attempt: Attempt, client: ApiClient) -> None:
        """Send one attempt, and end it, whatever happens."""
        began = self._loop.time()
        task = asyncio.current_task()
        assert task is not None

        def sends(sending: Sending) -> None:
            self._posts[task] = sending

        try:
            verdict = await deliver(attempt, client, sends)
        except asyncio.CancelledError:
            verdict = broken_off(attempt, self._posts.get(task))
        except Unattributable as error:
            self._sender_faults.note_unattributable(
                attempt.message, str(error), self._around.clock()
            )
            verdict = for_all(attempt, unattributable(str(error)))
        except Exception as error:
            if self._shortage.noted(self.name, error, self._loop.time()):
                verdict = Verdict(give_back=True)
            else:  # a defect of ours must end neither the attempt nor the pool
                log.exception("internal_error", upstream=self.name)
                verdict = failed_ourselves(attempt, self._posts.get(task))
        else:
            self._shortage.over()
        self._finish(attempt, verdict, client, began)

    def _finish(self, attempt: Attempt, verdict: Verdict, client: ApiClient, began: float) -> None:
        """The pool is told before the queue gets the attempt back, so that it is not tried here
        again at once.
        """
        message = attempt.message
        present = client is self._client and not self._stopping
        if present:
            self._breaker, verdict = judge(
                self._breaker, verdict, sender=message.identity.uid, message=message.queue_id
            )
            verdict = self._slowing.judge(verdict, message.identity.uid, self._breaker.seen)
            self._sender_faults.note(verdict, message, self._around.clock())
            self._learn(verdict)
        if verdict.give_back:
            words = "" if verdict.failure is None else verdict.failure.detail
            self._reporter.given_back(attempt, host=client.host, ending=words)
            self._around.work.give_back(attempt)
            return
        outcomes = verdict.outcomes([one.index for one in attempt.recipients], client.host)
        delays = Delays(self._around.clock() - message.received_at, 0.0, self._loop.time() - began)
        self._reporter.finished(attempt, outcomes, host=client.host, tls=client.tls, delays=delays)
        self._around.work.finish(attempt, outcomes)

    def _learn(self, verdict: Verdict) -> None:
        failure = verdict.failure
        if verdict.passed is not None:
            self._happened(Happening.ACCEPTED, passed=verdict.passed)
            self._restraint.slowed = False
        elif self._health.stalled and not verdict.give_back:
            self._happened(Happening.HEARD)
        if verdict.effect is not None:
            self._restraint.hear(
                verdict.effect, verdict.retry_after, len(self._posts), self._loop.time()
            )
        if failure is not None:
            happening = Happening.FAILED if verdict.give_back else Happening.LOGIN_REFUSED
            if happening is Happening.FAILED and self._health.state is UpstreamState.HELD:
                return  # one blip is one failure, however many requests see it
            self._happened(happening, replace(failure, detail=self._named(failure.detail)))

    def _named(self, detail: str) -> str:
        host = self._client.host
        return detail if host in detail else f"{host} {detail}"

    # --- health

    def _probe_when_due(self, now: float) -> None:
        if self._probe is not None:
            return
        if now < self._probe_at:
            self._look_again(self._probe_at)
            return
        self._probe = self._loop.create_task(self._probed(self._client))
        self._probe.add_done_callback(self._probe_ended)

    def _probe_ended(self, task: asyncio.Task[None]) -> None:
        self._probe = None
        self._decide_soon()

    async def _probed(self, client: ApiClient) -> None:
        """Whether there are credentials, and the host answers. More cannot be known without a
        message; the next one is tried alone.
        """
        failure = client.defect or await client.probe(self._around.deadlines.session)
        if client is not self._client or self._health.state is not UpstreamState.HELD:
            return
        if failure is None:
            self._happened(Happening.OPENED)
        else:
            self._happened(Happening.FAILED, replace(failure, detail=self._named(failure.detail)))

    def _no_token(self, found: NoToken) -> None:
        """Nothing can be sent. With mail waiting that shows at the next request."""
        if not self._posts and self._health.state is not UpstreamState.HELD:
            self._happened(Happening.FAILED, Failure(Stage.TOKEN, found.reason, found.detail))

    def _token_again(self) -> None:
        """What held the upstream is over: there is no need to wait for the next probe."""
        if self._health.state is UpstreamState.HELD and self._health.stage is Stage.TOKEN:
            self._probe_at = self._loop.time()
            self._decide_soon()

    def _happened(
        self,
        happening: Happening,
        failure: Failure | None = None,
        *,
        passed: Stage = Stage.MAIL,
    ) -> None:
        if self._stopping:
            return  # the name may be another pool's by now
        around = self._around
        self._health, action = step(
            self._health, happening, now=around.clock(), failure=failure, passed=passed
        )
        if action is Action.HOLD:
            assert failure is not None
            jitter = around.rng.random()
            plain = pause(max(1, self._health.failures), around.probing, jitter)
            seconds = rest(failure, max(plain, failure.retry_after or 0.0), around.clock())
            self._probe_at = self._loop.time() + seconds
            telling.held(self.name, failure, seconds, around)
        elif action is Action.RELEASE:
            telling.up(self.name, around)
        elif action is Action.PROBE:
            self._probe_at = self._loop.time()
        self._decide_soon()

    def _count(self) -> None:
        if not self._stopping:
            self._around.metrics.upstream_connections(self.name).set(len(self._posts))
