"""A queue in memory that implements delivery's Work Protocol, and ways to wait for what it was
told.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from mailrelay_gateway.file_body import FileBody
from mailrelay_gateway.message.effect import Effect
from mailrelay_gateway.message.envelope import (
    Attempt,
    AttemptRecipient,
    Identity,
    Message,
    Outcome,
    Result,
)
from mailrelay_gateway.message.lane import LaneKey
from mailrelay_gateway.reasons import Reason
from tests.waiting import PATIENCE

UPSTREAM = "smarthost"
LANE = LaneKey(UPSTREAM)
IDENTITY = Identity(namespace="team", name="app", uid="uid", username="team.app")
BODY = b"From: app@example.com\r\nSubject: hello\r\n\r\nA line.\r\n.\r\n..two dots\r\n"


def attempt(
    number: int = 0,
    *,
    sender: str = "app@example.com",
    recipients: Sequence[str] = ("one@example.net",),
    body: bytes | Path = BODY,
    size: int | None = None,
    eight_bit: bool = False,
    smtputf8: bool = False,
    uid: str = "uid",
    name: str = "app",
    attempts: int = 0,
) -> Attempt:
    """An attempt for a message with these recipients, of the MailSender with that uid, after so
    many others.
    """
    if isinstance(body, bytes):
        octets = len(body)
    else:
        octets = body.stat().st_size if body.exists() else 0
    message = Message(
        queue_id=f"{number:026d}",
        envelope_sender=sender,
        recipient_count=len(recipients),
        identity=replace(IDENTITY, uid=uid, name=name),
        listener="submission",
        received_at=0.0,
        size=octets if size is None else size,
        body=FileBody(body, octets) if isinstance(body, Path) else body,
        eight_bit=eight_bit,
        smtputf8=smtputf8,
    )
    return Attempt(
        number=number,
        message=message,
        upstream=UPSTREAM,
        recipients=tuple(
            AttemptRecipient(index, address, attempts) for index, address in enumerate(recipients)
        ),
    )


class MemoryWork:
    """Implements `delivery.work.Work`. Attempts given back are ready again, at the front."""

    def __init__(self) -> None:
        """Start with nothing to do."""
        self.waiting: deque[Attempt] = deque()
        self.running: dict[int, Attempt] = {}
        self.finished: list[tuple[Attempt, tuple[Outcome, ...]]] = []
        self.given_back: list[Attempt] = []
        self.held: tuple[Reason, str] | None = None
        self.holds: list[tuple[Reason, str]] = []
        self.releases = 0
        self.wake_at = {5}  # when so many are left: a hint may come at any time, or never
        self.wake: Callable[[LaneKey], None] = lambda lane: None
        self.slowed: list[tuple[Effect, float | None]] = []
        self.rests_until = 0.0  # Unix seconds
        self.pause_by = 0.0  # seconds for which `slow` makes the lane rest
        self.mosts: list[int | None] = []  # recipients that `take` was asked for, at most
        self._changed = asyncio.Event()

    # --- Work

    def ready(self, lane: LaneKey) -> bool:
        return bool(self.waiting) and self.held is None and time.time() >= self.rests_until

    def not_before(self, lane: LaneKey) -> float | None:
        return self.rests_until if self.rests_until > time.time() else None

    def take(self, lane: LaneKey, most: int | None = None) -> Attempt | None:
        if not self.ready(lane):
            return None
        self.mosts.append(most)
        taken = self.waiting.popleft()
        assert taken.number not in self.running
        self.running[taken.number] = taken
        self._changed.set()
        if len(self.waiting) in self.wake_at:
            self.wake(lane)  # as the queue does when it leases ahead: in the midst of `take`
        return taken

    def finish(self, attempt: Attempt, outcomes: Sequence[Outcome]) -> None:
        del self.running[attempt.number]
        assert [o.index for o in outcomes] == [r.index for r in attempt.recipients]
        self.finished.append((attempt, tuple(outcomes)))
        self._changed.set()

    def give_back(self, attempt: Attempt) -> None:
        del self.running[attempt.number]
        self.given_back.append(attempt)
        self.waiting.appendleft(attempt)
        self._changed.set()
        self.wake(LANE)

    def hold(self, upstream: str, reason: Reason, detail: str) -> None:
        self.held = (reason, detail)
        self.holds.append(self.held)
        self._changed.set()

    def release(self, upstream: str) -> None:
        self.held = None
        self.releases += 1
        self._changed.set()
        self.wake(LANE)

    def slow(self, lane: LaneKey, effect: Effect, retry_after: float | None) -> None:
        self.slowed.append((effect, retry_after))
        if self.pause_by:
            self.rests_until = time.time() + self.pause_by
        self._changed.set()

    # --- for tests

    def add(self, *attempts: Attempt) -> None:
        """Make attempts ready, and say so once for all of them, as the queue may."""
        self.waiting.extend(attempts)
        self.wake(LANE)

    @property
    def outcomes(self) -> list[Outcome]:
        """All outcomes in the order they came."""
        return [outcome for _, outcomes in self.finished for outcome in outcomes]

    @property
    def results(self) -> list[tuple[Result, Reason]]:
        """Result and reason of all outcomes."""
        return [(outcome.result, outcome.reason) for outcome in self.outcomes]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition over what this object was told."""
        async with asyncio.timeout(PATIENCE):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def until_finished(self, count: int = 1) -> list[Outcome]:
        """Wait for so many attempts to be finished; all outcomes."""
        await self.until(lambda: len(self.finished) >= count)
        return self.outcomes
