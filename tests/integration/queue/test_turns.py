"""Every message gets its turn: upstreams may come, go, be held and change their kind."""

from __future__ import annotations

import time
from pathlib import Path

import apsw

from mailrelay_gateway.contract.documents import HostPort
from mailrelay_gateway.file_body import FileBody
from mailrelay_gateway.message.effect import PauseUntil
from mailrelay_gateway.message.envelope import (
    ANONYMOUS,
    Attempt,
    Identity,
    Message,
    Outcome,
    Result,
)
from mailrelay_gateway.message.lane import LaneKey
from mailrelay_gateway.queue.disk.schema import DATABASE
from mailrelay_gateway.queue.item import State
from mailrelay_gateway.queue.turns import WINDOW
from mailrelay_gateway.reasons import Reason
from tests.integration.queue.rig import (
    REPLIES,
    Choose,
    ChosenCourier,
    Rig,
    changed,
    config,
    rows,
    running,
)
from tests.models import made
from tests.waiting import until

DOWN = (Reason.UPSTREAM_UNREACHABLE, "down")


def always(result: Result) -> Choose:
    return lambda _attempt, _index: result


async def fill_window(rig: Rig) -> None:
    """Store as many messages as a lane holds, and some more."""
    answers: list[object] = []
    for n in range(WINDOW + 10):
        message = Message(
            queue_id=rig.scheduler.new_id(),
            envelope_sender="app@example.com",
            recipient_count=1,
            identity=ANONYMOUS,
            listener="submission",
            received_at=time.time(),
            size=10,
            body=b"A: b\r\n\r\n\r\n",
            eight_bit=False,
        )
        rig.scheduler.accept(message, [f"{n}@x.example"], answers.append)
    await until(lambda: len(answers) == WINDOW + 10)


async def take(rig: Rig, upstream: str) -> Attempt:
    """The next attempt, waited for."""
    found: list[Attempt] = []

    def taken() -> bool:
        attempt = rig.scheduler.take(LaneKey(upstream))
        found.extend([attempt] if attempt is not None else [])
        return bool(found)

    await until(taken)
    return found[0]


async def test_a_released_second_upstream_takes_what_was_held_at_the_first(tmp_path: Path) -> None:
    async with running(tmp_path, config("first", "second"), always(Result.DELIVERED)) as rig:
        rig.scheduler.hold("first", *DOWN)
        rig.scheduler.hold("second", *DOWN)
        await rig.submit("a@x.example")
        rig.scheduler.release("second")
        await until(lambda: len(rig.courier.delivered) == 1)


async def test_an_upstream_that_is_added_takes_what_was_held(tmp_path: Path) -> None:
    async with running(tmp_path, config("first"), always(Result.DELIVERED)) as rig:
        rig.scheduler.hold("first", *DOWN)
        await rig.submit("a@x.example")
        rig.scheduler.attach({"first": rig.courier, "second": rig.courier})
        rig.scheduler.configure(config("first", "second"))
        await until(lambda: len(rig.courier.delivered) == 1)


async def test_a_held_upstream_that_gets_another_courier_starts_afresh(tmp_path: Path) -> None:
    async with running(tmp_path, config("u"), always(Result.DELIVERED)) as rig:
        rig.scheduler.hold("u", *DOWN)
        await rig.submit("a@x.example")
        other = ChosenCourier(always(Result.DELIVERED))
        other.work = rig.scheduler
        rig.scheduler.attach({"u": other})
        rig.scheduler.configure(config("u"))
        await until(lambda: len(other.delivered) == 1)


async def test_an_orderly_stop_leaves_nothing_uncertain(tmp_path: Path) -> None:
    async with running(tmp_path, config("u"), always(Result.DELIVERED)) as rig:
        rig.courier.paused = True
        for n in range(3):
            await rig.submit(f"{n}@x.example")
        attempt = await take(rig, "u")
        rig.scheduler.stop_taking()
        rig.scheduler.give_back(attempt)
    assert rows(tmp_path, "SELECT DISTINCT state, attempts FROM recipients") == [
        (int(State.READY), 0)
    ]


async def test_a_large_message_whose_file_is_gone_ends_without_harm_to_others(
    tmp_path: Path,
) -> None:
    async with running(tmp_path, config("u"), always(Result.DELIVERED)) as rig:
        rig.courier.paused = True
        for sender in ("", "app@example.com"):
            queue_id = rig.scheduler.new_id()
            path = rig.scheduler.body_path(queue_id)
            path.write_bytes(b"S: x\r\n\r\n" + b"x" * 300_000 + b"\r\n")
            message = Message(
                queue_id=queue_id,
                envelope_sender=sender,
                recipient_count=1,
                identity=ANONYMOUS,
                listener="submission",
                received_at=time.time(),
                size=path.stat().st_size,
                body=FileBody(path, path.stat().st_size),
                eight_bit=False,
            )
            await rig.accept(message, "a@x.example")
            attempt = await take(rig, "u")
            path.unlink()
            rig.scheduler.finish(
                attempt, [Outcome(0, Result.FAILED, *REPLIES[Result.FAILED], "h:25")]
            )
        await until(lambda: rows(tmp_path, "SELECT count(*) FROM dead_letters") == [(2,)])
        assert rig.failures == []


async def test_an_attempt_of_a_removed_upstream_is_tried_again_though_the_window_is_full(
    tmp_path: Path,
) -> None:
    async with running(tmp_path, config("old"), always(Result.DELIVERED)) as rig:
        rig.courier.paused = True
        await rig.submit("nearly-stuck@x.example")
        attempt = await take(rig, "old")
        rig.scheduler.attach({"new": rig.courier})
        rig.scheduler.configure(config("new"))
        rig.scheduler.hold("new", *DOWN)
        await fill_window(rig)
        rig.scheduler.finish(
            attempt, [Outcome(0, Result.DEFERRED, *REPLIES[Result.DEFERRED], "h:25")]
        )
        await until(lambda: rows(tmp_path, "SELECT 1 FROM recipients WHERE attempts=1") == [(1,)])
        rig.courier.paused = False
        rig.scheduler.release("new")
        await until(lambda: len(rig.courier.delivered) == WINDOW + 11)
        assert len(set(rig.courier.delivered)) == WINDOW + 11


async def test_time_held_before_a_restart_is_not_charged(tmp_path: Path) -> None:
    found = config("u", give_up_after=1.0, max_interval=0.05)

    def choose(attempt: Attempt, _index: int) -> Result:
        return Result.DEFERRED if attempt.recipients[0].attempts < 2 else Result.DELIVERED

    async with running(tmp_path, found, choose) as rig:
        rig.courier.paused = True
        await rig.submit("a@x.example", sender="")
        rig.courier.end(await take(rig, "u"))
        rig.scheduler.hold("u", Reason.UPSTREAM_AUTH_FAILED, "535")
        await until(lambda: rows(tmp_path, "SELECT state FROM recipients") == [(int(State.READY),)])
        held_until = time.time() + 1.2  # beyond giveUpAfter
        await until(lambda: time.time() > held_until)
    async with running(tmp_path, found, choose) as rig:
        await until(lambda: not rows(tmp_path, "SELECT 1 FROM messages"))
    assert rows(tmp_path, "SELECT reason FROM dead_letters") == []


async def test_a_long_pause_leaves_what_is_leased_ahead_to_the_next_upstream(
    tmp_path: Path,
) -> None:
    async with running(tmp_path, config("first", "second"), always(Result.DELIVERED)) as rig:
        rig.courier.paused = True
        for n in range(5):
            await rig.submit(f"{n}@x.example")
        begun = await take(rig, "first")
        rig.scheduler.slow(LaneKey("first"), PauseUntil(seconds=86_400.0))
        rig.courier.paused = False
        rig.scheduler.give_back(begun)
        await until(lambda: len(rig.courier.delivered) == 5)
        assert {upstream for upstream, _, _ in rig.courier.tried} == {"second"}


async def test_a_lane_that_pauses_for_long_keeps_no_leases(tmp_path: Path) -> None:
    async with running(tmp_path, config("u"), always(Result.DELIVERED)) as rig:
        rig.courier.paused = True
        for n in range(5):
            await rig.submit(f"{n}@x.example")
        rig.scheduler.slow(LaneKey("u"), PauseUntil(seconds=86_400.0))
        await until(
            lambda: rows(tmp_path, "SELECT DISTINCT state FROM recipients") == [(int(State.READY),)]
        )


async def test_an_upstream_that_is_changed_forgets_the_pause_of_what_it_was(
    tmp_path: Path,
) -> None:
    before = config("u")
    elsewhere = made.smarthost(hosts=(HostPort(host="192.0.2.2", port=25),))
    async with running(tmp_path, before, always(Result.DELIVERED)) as rig:
        rig.courier.paused = True
        await rig.submit("leased@x.example")
        rig.scheduler.slow(LaneKey("u"), PauseUntil(seconds=86_400.0))
        rig.courier.paused = False
        rig.scheduler.configure(before)  # nothing new about the upstream
        assert rig.scheduler.not_before(LaneKey("u")) is not None
        await rig.submit("ready@x.example")
        rig.scheduler.configure(changed(before, "u", settings=elsewhere))
        await until(lambda: len(rig.courier.delivered) == 2)


async def test_a_body_that_was_restored_is_sent_when_its_time_has_come(tmp_path: Path) -> None:
    async with running(tmp_path, config("u"), always(Result.DELIVERED)) as rig:
        rig.scheduler.hold("u", *DOWN)
        queue_id = rig.scheduler.new_id()
        path = rig.scheduler.body_path(queue_id)
        path.write_bytes(b"S: x\r\n\r\n" + b"x" * 300_000 + b"\r\n")
        message = Message(
            queue_id=queue_id,
            envelope_sender="app@example.com",
            recipient_count=1,
            identity=ANONYMOUS,
            listener="submission",
            received_at=time.time(),
            size=path.stat().st_size,
            body=FileBody(path, path.stat().st_size),
            eight_bit=False,
        )
        await rig.accept(message, "a@x.example")
        path.rename(tmp_path / "apart")
        rig.scheduler.release("u")
        await until(
            lambda: rows(tmp_path, "SELECT state FROM recipients") == [(int(State.DEFERRED),)]
        )
        (tmp_path / "apart").rename(path)
        other = apsw.Connection(str(tmp_path / DATABASE))
        other.set_busy_timeout(5000)
        other.execute("UPDATE recipients SET next_at = 1.0")  # its hour is over
        other.close()
        await until(lambda: len(rig.courier.delivered) == 1)


async def test_a_message_in_many_pieces_takes_turns_with_other_senders(tmp_path: Path) -> None:
    one, other = (
        Identity(namespace="n", name=name, uid=name, username=f"n.{name}") for name in "ab"
    )
    async with running(tmp_path, config("u"), always(Result.DELIVERED)) as rig:
        rig.courier.paused = True
        await rig.submit(*[f"{n}@x.example" for n in range(50)], identity=one)
        await rig.submit("single@x.example", identity=other)
        taken = [rig.scheduler.take(LaneKey("u"), 1) for _ in range(4)]
        assert [attempt and attempt.recipients[0].address for attempt in taken] == [
            "0@x.example",
            "single@x.example",
            "1@x.example",
            "2@x.example",
        ]
