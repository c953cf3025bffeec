"""What was stored is delivered or becomes a dead letter, whatever upstreams do and however often
we restart.
"""

from __future__ import annotations

import random
import time
from pathlib import Path

import apsw
import pytest

from mailrelay_gateway.file_body import FileBody
from mailrelay_gateway.message.envelope import ANONYMOUS, Attempt, Message, Outcome, Result
from mailrelay_gateway.message.lane import LaneKey
from mailrelay_gateway.queue.disk.schema import DATABASE
from mailrelay_gateway.queue.item import State
from mailrelay_gateway.queue.turns import WINDOW
from mailrelay_gateway.reasons import Reason
from mailrelay_gateway.smtp.refusal import Problem
from tests.integration.queue.rig import Choose, Refused, config, rows, running
from tests.waiting import until

DEAD = (
    "SELECT m.id, d.address FROM dead_letters d JOIN dead_messages m ON m.n = d.message"
    " ORDER BY d.message, d.recipient"
)


def always(result: Result) -> Choose:
    return lambda _attempt, _index: result


async def test_delivered_messages_leave_nothing_behind(tmp_path: Path) -> None:
    async with running(tmp_path, config("u"), always(Result.DELIVERED)) as rig:
        ids = [await rig.submit("a@x.example", "b@x.example") for _ in range(50)]
        await until(lambda: len(rig.courier.delivered) == 100)
    assert {queue_id for queue_id, _ in rig.courier.delivered} == set(ids)
    assert rows(tmp_path, "SELECT count(*) FROM messages") == [(0,)]
    assert rows(tmp_path, "SELECT count(*) FROM recipients") == [(0,)]


@pytest.mark.parametrize("seed", range(8))
async def test_random_outcomes_and_restarts(tmp_path: Path, seed: int) -> None:
    """Invariant: each recipient ends once, delivered or as a dead letter, over random outcomes
    and restarts.
    """
    dice = random.Random(seed)
    weights = {
        Result.DELIVERED: 4,
        Result.DEFERRED: 3,
        Result.FAILED: 1,
        Result.UNCERTAIN: 1,
        Result.HELD: 1,
    }

    def choose(attempt: Attempt, index: int) -> Result:
        if not attempt.message.envelope_sender:
            return Result.DELIVERED  # a notice
        return dice.choices(list(weights), list(weights.values()))[0]

    expected: set[tuple[str, str]] = set()
    ended: list[tuple[str, str]] = []
    for life in range(3):
        async with running(tmp_path, config("u", "v"), choose, seed=seed) as rig:
            for n in range(20):
                addresses = [f"r{life}.{n}.{k}@x.example" for k in range(dice.randint(1, 3))]
                queue_id = await rig.submit(*addresses)
                expected.update((queue_id, address) for address in addresses)
        ended += [entry for entry in rig.courier.delivered if entry in expected]
    async with running(tmp_path, config("u", "v"), choose, seed=seed) as rig:
        await until(lambda: not rows(tmp_path, "SELECT 1 FROM messages LIMIT 1"))
    ended += [entry for entry in rig.courier.delivered if entry in expected]
    dead = [(str(a), str(b)) for a, b in rows(tmp_path, DEAD)]
    assert sorted(ended + dead) == sorted(expected)


async def test_a_lease_found_at_start_is_uncertain_and_stays_with_its_upstream(
    tmp_path: Path,
) -> None:
    found = config("first", "second")
    async with running(tmp_path, found, always(Result.DELIVERED)) as rig:
        rig.courier.paused = True
        queue_id = await rig.submit("a@x.example")
        assert rows(tmp_path, "SELECT state, upstream FROM recipients") == [
            (int(State.LEASED), "first")
        ]
    # An orderly stop gives leases back; a killed process leaves them.
    assert rows(tmp_path, "SELECT state FROM recipients") == [(int(State.READY),)]
    apsw.Connection(str(tmp_path / DATABASE)).execute(
        "UPDATE recipients SET state=?", (int(State.LEASED),)
    )
    async with running(tmp_path, found, always(Result.DELIVERED)) as rig:
        rig.scheduler.hold("first", Reason.UPSTREAM_UNREACHABLE, "down")
        await until(lambda: rows(tmp_path, "SELECT state FROM recipients") == [(int(State.READY),)])
        assert rows(tmp_path, "SELECT pinned, reason FROM recipients") == [(1, "LeaseFound")]
        rig.scheduler.release("first")
        await until(lambda: rig.courier.delivered == [(queue_id, "a@x.example")])
        assert rig.courier.tried == [("first", queue_id, "a@x.example")]


async def test_a_held_upstream_hands_its_mail_to_the_next(tmp_path: Path) -> None:
    async with running(tmp_path, config("first", "second"), always(Result.DELIVERED)) as rig:
        rig.courier.paused = True
        waiting = [await rig.submit(f"{n}@x.example") for n in range(100)]
        rig.courier.paused = False
        rig.scheduler.hold("first", Reason.UPSTREAM_AUTH_FAILED, "535 no")
        fresh = await rig.submit("z@x.example")
        await until(lambda: len(rig.courier.delivered) == 101)
        assert {upstream for upstream, _, _ in rig.courier.tried} == {"second"}
        assert {queue_id for queue_id, _ in rig.courier.delivered} == {*waiting, fresh}


async def test_with_nowhere_to_go_held_mail_waits_without_being_charged(tmp_path: Path) -> None:
    async with running(tmp_path, config("only"), always(Result.DELIVERED)) as rig:
        rig.scheduler.hold("only", Reason.UPSTREAM_UNREACHABLE, "down")
        for n in range(30):
            await rig.submit(f"{n}@x.example")
        assert rows(tmp_path, "SELECT DISTINCT state, attempts FROM recipients") == [
            (int(State.READY), 0)
        ]
        assert rig.courier.tried == []
        rig.scheduler.release("only")
        await until(lambda: len(rig.courier.delivered) == 30)


async def test_a_queue_larger_than_memory_is_delivered_in_full(tmp_path: Path) -> None:
    count = WINDOW + 700
    async with running(tmp_path, config("only"), always(Result.DELIVERED)) as rig:
        rig.scheduler.hold("only", Reason.UPSTREAM_UNREACHABLE, "down")
        answers: list[Problem | None] = []
        for n in range(count):
            message = _message(rig.scheduler.new_id())
            rig.scheduler.accept(message, [f"{n}@x.example"], answers.append)
        await until(lambda: len(answers) == count)
        assert answers == [None] * count
        rig.scheduler.release("only")
        await until(lambda: len(rig.courier.delivered) == count)
        assert len(set(rig.courier.delivered)) == count
    async with running(tmp_path, config("only"), always(Result.DELIVERED)) as rig:
        assert rig.courier.tried == []


async def test_a_queue_larger_than_memory_survives_a_restart(tmp_path: Path) -> None:
    count = WINDOW + 700
    async with running(tmp_path, config("only", suspend=True), always(Result.DELIVERED)) as rig:
        answers: list[Problem | None] = []
        for n in range(count):
            message = _message(rig.scheduler.new_id())
            rig.scheduler.accept(message, [f"{n}@x.example"], answers.append)
        await until(lambda: len(answers) == count)
    async with running(tmp_path, config("only"), always(Result.DELIVERED)) as rig:
        await until(lambda: len(rig.courier.delivered) == count)
        assert len(set(rig.courier.delivered)) == count


async def test_failed_recipients_get_a_notice_and_a_dead_letter(tmp_path: Path) -> None:
    def choose(attempt: Attempt, index: int) -> Result:
        return Result.FAILED if attempt.message.envelope_sender and index == 1 else Result.DELIVERED

    async with running(tmp_path, config("u"), choose) as rig:
        queue_id = await rig.submit("good@x.example", "bad@x.example", sender="app@example.com")
        await until(lambda: len(rig.courier.delivered) == 2)
    notice_id, address = rig.courier.delivered[1]
    assert address == "app@example.com"
    notice = rig.courier.bodies[notice_id].decode()
    assert "Final-Recipient: rfc822; bad@x.example" in notice
    assert "Diagnostic-Code: smtp; 550 5.1.1 no such user" in notice
    assert "good@x.example" not in notice
    assert rows(tmp_path, DEAD.replace("address", "address, reply")) == [
        (queue_id, "bad@x.example", "550 5.1.1 no such user")
    ]


async def test_a_failed_notice_makes_no_further_notice(tmp_path: Path) -> None:
    async with running(tmp_path, config("u"), always(Result.FAILED)) as rig:
        await rig.submit("bad@x.example", sender="app@example.com")
        await until(lambda: len(rows(tmp_path, "SELECT 1 FROM dead_letters")) == 2)
    assert rows(tmp_path, "SELECT count(*) FROM messages") == [(0,)]


async def test_large_bodies_are_files_that_go_with_their_message(tmp_path: Path) -> None:
    body = b"S: x\r\n\r\n" + b"x" * 400_000 + b"\r\n"
    async with running(tmp_path, config("u"), always(Result.DELIVERED)) as rig:
        queue_id = rig.scheduler.new_id()
        path = rig.scheduler.body_path(queue_id)
        path.write_bytes(body)
        await rig.accept(_message(queue_id, body=path), "a@x.example")
        await until(lambda: len(rig.courier.delivered) == 1)
        await until(lambda: not path.exists())
    assert rig.courier.bodies[queue_id] == body


async def test_stray_files_are_removed_at_start_and_known_ones_kept(tmp_path: Path) -> None:
    async with running(tmp_path, config("u", suspend=True), always(Result.DELIVERED)) as rig:
        queue_id = rig.scheduler.new_id()
        known = rig.scheduler.body_path(queue_id)
        known.write_bytes(b"S: x\r\n\r\nkept\r\n")
        await rig.accept(_message(queue_id, body=known), "a@x.example")
        stray = rig.scheduler.body_path("NEVERCOMMITTED")
        stray.write_bytes(b"half a mess")
    async with running(tmp_path, config("u", suspend=True), always(Result.DELIVERED)):
        assert known.exists()
        assert not stray.exists()


async def test_suspended_mail_waits_until_it_is_resumed(tmp_path: Path) -> None:
    async with running(tmp_path, config("u", suspend=True), always(Result.DELIVERED)) as rig:
        await rig.submit("a@x.example")
        assert rig.courier.tried == []
        rig.scheduler.configure(config("u"))
        await until(lambda: len(rig.courier.delivered) == 1)


async def test_mail_of_an_upstream_that_is_gone_finds_another(tmp_path: Path) -> None:
    async with running(tmp_path, config("old", suspend=True), always(Result.DELIVERED)) as rig:
        for n in range(3):
            await rig.submit(f"{n}@x.example")
        rig.scheduler.attach({"new": rig.courier})
        rig.scheduler.configure(config("new"))
        await until(lambda: len(rig.courier.delivered) == 3)
        assert {upstream for upstream, _, _ in rig.courier.tried} == {"new"}


async def test_gives_up_after_the_time_and_not_while_held(tmp_path: Path) -> None:
    async with running(tmp_path, config("u", give_up_after=0.2), always(Result.DEFERRED)) as rig:
        await rig.submit("a@x.example", sender="")
        await until(lambda: bool(rows(tmp_path, "SELECT 1 FROM dead_letters")))
    assert rows(tmp_path, "SELECT reason, reply FROM dead_letters") == [
        ("GaveUp", "451 4.3.0 later")
    ]


async def test_nothing_is_accepted_below_the_low_water_mark(tmp_path: Path) -> None:
    async with running(tmp_path, config("u"), always(Result.DELIVERED), low_water=1 << 62) as rig:
        problem = rig.scheduler.problem()
        assert problem is not None
        assert problem.reason is Reason.INSUFFICIENT_STORAGE
        with pytest.raises(Refused):
            await rig.submit("a@x.example")


@pytest.mark.parametrize(("others", "full"), [(0, False), (3, True)])
async def test_a_queue_of_a_size_refuses_before_it_is_reached(
    tmp_path: Path, others: int, *, full: bool
) -> None:
    octets = 1 << 20
    held = config("u"), always(Result.DEFERRED)
    async with running(tmp_path, *held, low_water=octets, size=4 * octets) as rig:
        for number in range(others):  # as many as a large body's file holds
            ((tmp_path / "bodies") / f"other-{number}").write_bytes(bytes(octets))
        problem = rig.scheduler.problem()
        assert (problem is not None) is full
        if problem is not None:
            assert problem.reason is Reason.INSUFFICIENT_STORAGE
            with pytest.raises(Refused):
                await rig.submit("a@x.example")


async def test_a_body_that_is_gone_is_looked_for_as_seldom_as_a_message_is_tried(
    tmp_path: Path,
) -> None:
    """A time beyond any pause would count as given by a clock that was ahead, and be READY."""
    found = config("u", max_interval=60.0)
    async with running(tmp_path, found, always(Result.DELIVERED)) as rig:
        rig.courier.paused = True
        queue_id = rig.scheduler.new_id()
        body = rig.scheduler.body_path(queue_id)
        body.write_bytes(b"A: b\r\n\r\n" + b"x" * 300_000)
        await rig.accept(_message(queue_id, body), "someone@x.example")
    body.unlink()
    waits = "SELECT next_at FROM recipients WHERE next_at IS NOT NULL"
    async with running(tmp_path, found, always(Result.DELIVERED)):
        await until(lambda: rows(tmp_path, waits))
    [(next_at,)] = rows(tmp_path, waits)
    assert isinstance(next_at, float)
    assert next_at <= time.time() + 60.0


async def test_an_attempt_that_we_fail_to_judge_keeps_nobody_leased(tmp_path: Path) -> None:
    """A courier that says nothing of one of its recipients."""
    found = config("u", max_interval=3600.0)
    async with running(tmp_path, found, always(Result.DELIVERED)) as rig:
        rig.courier.paused = True
        await rig.submit("a@x.example", "b@x.example")
        await until(lambda: rig.scheduler.ready(LaneKey("u")))
        attempt = rig.scheduler.take(LaneKey("u"))
        assert attempt is not None
        delivered = Outcome(0, Result.DELIVERED, Reason.DELIVERED)
        rig.scheduler.finish(attempt, [delivered])
        left = "SELECT address, state, reason, waited FROM recipients"
        expected = [("b@x.example", int(State.DEFERRED), Reason.INTERNAL_ERROR.value, 0.0)]
        await until(lambda: rows(tmp_path, left) == expected)


def _message(queue_id: str, body: bytes | Path = b"A: b\r\n\r\nhi\r\n") -> Message:
    kept = FileBody(body, body.stat().st_size) if isinstance(body, Path) else body
    return Message(
        queue_id=queue_id,
        envelope_sender="app@example.com",
        recipient_count=1,
        identity=ANONYMOUS,
        listener="submission",
        received_at=0.0,
        size=len(kept) if isinstance(kept, bytes) else kept.size,
        body=kept,
        eight_bit=False,
    )
