"""A deadline moves without a timer of its own, and strikes once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from mailrelay_gateway.couriers.smtp.deadlines import READ_FIRST, Deadlines, Watchdog
from mailrelay_gateway.smtp.client.states import State


class Clock:
    """Implements `deadlines.Timers` with a clock that the test sets; timers ring when it passes
    them.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[asyncio.TimerHandle] = []
        self._loop = asyncio.new_event_loop()  # a TimerHandle wants one
        self._loop.close()

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        timer = asyncio.TimerHandle(when, callback, (), self._loop)
        self.timers.append(timer)
        return timer

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        for timer in [timer for timer in self.timers if timer.when() <= self.now]:
            self.timers.remove(timer)
            if not timer.cancelled():
                timer._run()


def test_feeding_again_moves_the_deadline_without_new_timers() -> None:
    loop = Clock()
    expired: list[float] = []
    dog = Watchdog(loop, lambda: expired.append(loop.now))
    for _ in range(100):
        dog.feed(10)
        loop.pass_time(0.1)
    assert len(loop.timers) == 1
    loop.pass_time(5)
    assert expired == []
    loop.pass_time(5)
    loop.pass_time(READ_FIRST)
    assert len(expired) == 1
    loop.pass_time(100)
    assert len(expired) == 1


def test_a_shorter_deadline_strikes_earlier() -> None:
    loop = Clock()
    expired: list[float] = []
    dog = Watchdog(loop, lambda: expired.append(loop.now))
    dog.feed(600)
    dog.feed(2)
    loop.pass_time(2)
    loop.pass_time(READ_FIRST)
    assert expired == [2 + READ_FIRST]


def test_what_came_while_the_process_slept_is_read_first() -> None:
    loop = Clock()
    expired: list[float] = []
    dog = Watchdog(loop, lambda: expired.append(loop.now))
    dog.feed(10)
    loop.pass_time(700)  # stopped: the timer rings before what has come is read
    dog.feed(10)
    loop.pass_time(READ_FIRST)
    assert expired == []
    loop.pass_time(10)
    loop.pass_time(READ_FIRST)
    assert expired == [710 + 2 * READ_FIRST]


def test_a_stopped_one_never_strikes() -> None:
    loop = Clock()
    expired: list[float] = []
    dog = Watchdog(loop, lambda: expired.append(loop.now))
    dog.feed(1)
    dog.stop()
    loop.pass_time(10)
    assert expired == []


def test_every_state_has_a_deadline() -> None:
    deadlines = Deadlines()
    assert all(deadlines.of(state) > 0 for state in State)
    assert deadlines.of(State.FINAL) == 600
    assert deadlines.of(State.DATA) == 120
    assert deadlines.of(State.NOBODY) == 30, "a lone dot is no message"
