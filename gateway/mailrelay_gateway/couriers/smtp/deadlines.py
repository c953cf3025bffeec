"""How long an upstream may be silent in each stage, and one coarse timer per connection that
enforces it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from mailrelay_gateway.smtp.client.states import State

#: Seconds between the end of a server's time and its consequence. The process may have been
#: suspended (SIGSTOP, a frozen cgroup, a paused machine): loops then run their timers before they
#: read what has arrived meanwhile.
READ_FIRST = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadlines:
    """Seconds. RFC 5321 section 4.5.3.2 defines a minimum for each command; before MAIL nothing is
    at stake, so we are quicker there and try the next host.
    """

    resolve: float = 10.0  # all look-ups for one host
    connect: float = 10.0  # TCP, per address. Postfix: 30
    tls: float = 10.0  # a handshake
    greeting: float = 30.0  # RFC: 300; postscreen takes 6 to 30
    session: float = 30.0  # EHLO, STARTTLS, AUTH: RFC 300
    command: float = 300.0  # MAIL, RCPT: RFC 300
    data: float = 120.0  # 354: RFC 120
    block: float = 180.0  # progress with one block of a body: RFC 180
    final: float = 600.0  # the reply to the final dot: RFC 600
    idle: float = 30.0  # without work we leave after this time; many servers cut at 60 and more
    quit: float = 2.0  # some never answer QUIT
    stagger: float = 2.0  # an opening that takes longer is joined by a second one
    stall: float = 4.0  # if all are silent for so long, the next upstream of the route is used

    def of(self, state: State) -> float:
        """Seconds that the server has in this state until its next octets."""
        match state:
            case State.TLS:
                return self.tls + 5.0  # the handshake has its own deadline and ends before
            case State.GREETING:
                return self.greeting
            case State.READY:
                return self.idle
            case (
                State.EHLO
                | State.HELO
                | State.STARTTLS
                | State.AUTH_PLAIN
                | State.AUTH_PLAIN_ASKED
                | State.AUTH_LOGIN
                | State.AUTH_USERNAME
                | State.AUTH_PASSWORD
                | State.AUTH_BEARER
                | State.AUTH_BEARER_SHOWN
                | State.AUTH_BEARER_DISMISSED
            ):
                return self.session
            case State.DATA:
                return self.data
            case State.BODY:
                return self.block
            case State.FINAL:
                return self.final
            case State.NOBODY:
                return self.session  # nothing is at stake any more: no recipient was accepted
            case State.QUIT | State.CLOSED:
                return self.quit
            case _:
                return self.command


class Timers(Protocol):
    """What a Watchdog needs of an event loop."""

    def time(self) -> float:
        """Seconds of a monotonic clock."""
        ...

    def call_at(self, when: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        """Call back at `when` on that clock, unless cancelled."""
        ...


class Watchdog:
    """A deadline that moves often and rarely expires: moving it costs an assignment, not a timer.

    The loop's timer is set for the earliest deadline seen, and is set again if it fires too early.
    `expired` is called if the deadline has not moved READ_FIRST later.
    """

    __slots__ = ("_deadline", "_expired", "_loop", "_passed", "_timer")

    def __init__(self, loop: Timers, expired: Callable[[], None]) -> None:
        """Call `expired` once a deadline passes."""
        self._loop = loop
        self._expired = expired
        self._deadline = 0.0
        self._passed = 0.0  # the deadline that was seen to have passed
        self._timer: asyncio.TimerHandle | None = None

    def feed(self, seconds: float) -> None:
        """Set the deadline to `seconds` from now, whatever it was."""
        self._deadline = deadline = self._loop.time() + seconds
        timer = self._timer
        if timer is None:
            self._timer = self._loop.call_at(deadline, self._ring)
        elif deadline < timer.when():
            timer.cancel()
            self._timer = self._loop.call_at(deadline, self._ring)

    def stop(self) -> None:
        """Never call `expired` again."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ring(self) -> None:
        now = self._loop.time()
        if now < self._deadline - 0.001:  # timers may fire a clock tick early
            self._timer = self._loop.call_at(self._deadline, self._ring)
        elif self._passed != self._deadline:
            self._passed = self._deadline
            self._timer = self._loop.call_at(now + READ_FIRST, self._ring)
        else:
            self._timer = None
            self._expired()
