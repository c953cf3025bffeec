"""Every queue store keeps a message whole from `accept` to its last recipient's end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from mailrelay_gateway.message.envelope import Result
from mailrelay_gateway.message.route import Route
from mailrelay_gateway.queue.item import Job, Recipient, State
from mailrelay_gateway.queue.store import Entry, Part
from mailrelay_gateway.reasons import Reason
from mailrelay_gateway.smtp.dsn import DsnParameters, RecipientDsn
from mailrelay_gateway.smtp.refusal import Problem
from tests.integration.store.rig import (
    AB,
    LEASE,
    NOW,
    OTHER,
    TEAM,
    A,
    B,
    StoreRig,
    entry,
    message,
    moves,
    octets,
    ready,
    states,
    want,
)


async def test_what_was_accepted_is_claimed_whole(store: StoreRig) -> None:
    put = await store.put("x@example.com", "y@example.com")
    (job,) = await store.claim(want())
    assert job.message == put.message
    assert octets(job.message) == octets(put.message)
    assert job.recipients == put.recipients
    assert (job.seq, job.route, job.upstream) == (put.seq, A, "a")
    assert await store.claim(want()) == [], "leased: nobody else may have it"


DSN = DsnParameters("HDRS", "id+3D1", (RecipientDsn("SUCCESS", "rfc822;a@b"), RecipientDsn()))


async def test_dsn_parameters_stay_with_their_message(store: StoreRig) -> None:
    asked = message("x@example.com", "y@example.com", dsn=DSN)
    plain = message("x@example.com")
    assert await store.accept(entry(store.next(), asked, "x@example.com", "y@example.com")) is None
    assert await store.accept(entry(store.next(), plain, "x@example.com")) is None
    first, second = await store.claim(want())
    assert (first.message.dsn, second.message.dsn) == (DSN, None)
    some = moves(first, Result.DEFERRED, only=[1])
    assert await store.finish(first, some) is None
    known = await store.find(asked.queue_id)
    assert known is not None and known.message is not None
    assert known.message.dsn == DSN


async def test_a_large_body_is_a_file_until_the_message_goes(store: StoreRig) -> None:
    body = bytes(range(256)) * 4096
    put = await store.put("x@example.com", body=body)
    path = store.store.body_path(put.message.queue_id)
    (job,) = await store.claim(want())
    assert octets(job.message) == put.message.prelude + body
    assert await store.finish(job, moves(job, Result.DELIVERED)) is None
    assert not path.exists()
    assert (await store.count()).messages == 0


async def test_a_lease_that_rode_along_is_not_ready(store: StoreRig) -> None:
    job = await store.put("x@example.com", leased_at="a")
    assert await store.claim(want()) == []
    assert states(await store.find(job.message.queue_id)) == [State.LEASED]
    assert await store.finish(job, moves(job, Result.DELIVERED)) is None
    assert await store.find(job.message.queue_id) is None


async def test_recipients_take_their_own_routes(store: StoreRig) -> None:
    plain = message("x@a", "y@b", "z@a")
    recipients = [Recipient(n, address) for n, address in enumerate(("x@a", "y@b", "z@a"))]
    parts = [
        Part(route=A, recipients=(recipients[0], recipients[2])),
        Part(route=B, recipients=(recipients[1],), leased_at="b"),
    ]
    assert await store.accept(Entry(store.next(), plain, parts)) is None
    (job,) = await store.claim(want(A), want(B))
    assert [r.index for r in job.recipients] == [0, 2]
    assert await store.finish(job, moves(job, Result.DELIVERED)) is None
    assert (await store.count()).messages == 1
    assert states(await store.find(plain.queue_id)) == [State.LEASED]


async def test_claims_are_answered_in_their_order_oldest_first(store: StoreRig) -> None:
    for n in range(6):
        await store.put(f"{n}@example.com", identity=OTHER if n % 2 else TEAM)
    jobs = await store.claim(want(sender="uid-2", messages=2), want(messages=2))
    assert [job.recipients[0].address[0] for job in jobs] == ["1", "3", "0", "2"]


async def test_a_claim_keeps_to_its_octets_but_gives_one(store: StoreRig) -> None:
    for _ in range(3):
        await store.put("x@example.com", body=b"x" * 1000)
    assert len(await store.claim(want(octets=10))) == 1
    assert len(await store.claim(want(octets=2000))) == 2


async def test_a_body_in_a_file_takes_no_memory(store: StoreRig) -> None:
    for _ in range(3):
        await store.put("x@example.com", body=b"x" * 300_000)
    assert len(await store.claim(want(octets=10))) == 3


async def test_jobs_have_at_most_a_thousand_recipients(store: StoreRig) -> None:
    addresses = [f"{n}@example.com" for n in range(2500)]
    await store.put(*addresses)
    jobs = await store.claim(want())
    assert [len(job.recipients) for job in jobs] == [1000, 1000, 500]
    assert [r.address for job in jobs for r in job.recipients] == addresses
    for job in jobs:
        assert await store.finish(job, moves(job, Result.DELIVERED)) is None
    assert (await store.count()).messages == 0


async def test_what_is_deferred_comes_back_together(store: StoreRig) -> None:
    job = await store.put("x@example.com", "y@example.com", "z@example.com", leased_at="a")
    assert await store.finish(job, moves(job, Result.DEFERRED, only=[0, 2])) is None
    assert await store.claim(want()) == []
    early = await store.due(now=NOW + 1)
    assert ready(early.ready) == {}
    assert early.next_at == pytest.approx(NOW + 30)
    due = await store.due(now=NOW + 31)
    assert ready(due.ready) == {(A, "uid-1"): 2}
    assert due.next_at is None
    (again,) = await store.claim(want())
    assert [(r.index, r.attempts, r.first_tried_at, r.waited) for r in again.recipients] == [
        (0, 1, NOW, 30.0),
        (2, 1, NOW, 30.0),
    ]
    assert octets(again.message) == octets(job.message)


async def test_pinned_recipients_are_jobs_of_their_own(store: StoreRig) -> None:
    job = await store.put("x@example.com", "y@example.com", leased_at="a")
    parted = [
        moves(job, Result.UNCERTAIN, reason=Reason.REPLY_LOST)[0],
        moves(job, Result.HELD, reason=Reason.UPSTREAM_UNREACHABLE)[1],
    ]
    assert await store.finish(job, parted) is None
    await store.due(now=NOW + 86400)
    jobs = await store.claim(want(), want(Route(("a",), pinned=True)))
    assert [(j.pinned, [r.index for r in j.recipients]) for j in jobs] == [
        (False, [1]),
        (True, [0]),
    ]
    assert all(octets(j.message) == octets(job.message) for j in jobs)


async def test_uncertain_recipients_stay_with_their_upstream(store: StoreRig) -> None:
    job = await store.put("x@example.com", route=AB, leased_at="b")
    job.upstream = "b"
    assert await store.finish(job, moves(job, Result.UNCERTAIN)) is None
    due = await store.due(now=NOW + 86400)
    assert ready(due.ready) == {(Route(("b",), pinned=True), "uid-1"): 1}
    assert await store.claim(want(AB)) == []
    (again,) = await store.claim(want(Route(("b",), pinned=True)))
    assert again.pinned


async def test_due_takes_the_most_overdue_first_and_says_when_there_is_more(
    store: StoreRig,
) -> None:
    for n in range(5):
        job = await store.put(f"{n}@example.com", leased_at="a")
        assert await store.finish(job, moves(job, Result.DEFERRED, now=NOW - n)) is None
    first = await store.due(now=NOW + 100, most=2)
    assert first.more
    assert [job.recipients[0].address[0] for job in await store.claim(want())] == ["3", "4"]
    rest = await store.due(now=NOW + 100)
    assert not rest.more
    assert sum(rest.ready.values()) == 3


async def test_a_clock_that_was_ahead_puts_nothing_off_for_a_year(store: StoreRig) -> None:
    job = await store.put("x@example.com", leased_at="a")
    ahead = NOW + 366 * 86400
    assert await store.finish(job, moves(job, Result.DEFERRED, now=ahead)) is None
    assert ready((await store.due(now=NOW, latest=ahead + 60)).ready) == {}
    due = await store.due(now=NOW, latest=NOW + 2 * 3600)
    assert ready(due.ready) == {(A, "uid-1"): 1}
    assert due.next_at is None


async def test_a_notice_is_stored_with_the_failure_it_tells_of(store: StoreRig) -> None:
    job = await store.put("x@example.com", leased_at="a")
    notice = entry(
        store.next(), message("sender@example.org", identity=OTHER), "sender@example.org"
    )
    failed = moves(job, Result.FAILED, reason=Reason.UPSTREAM_REJECTED)
    assert await store.finish(job, failed, notices=[notice]) is None
    (found,) = await store.claim(want(sender="uid-2"))
    assert found.message == notice.message
    counts = await store.count()
    assert (counts.messages, counts.dead_letters) == (1, 1)


async def test_counts_say_what_is_where(store: StoreRig) -> None:
    await store.put("x@example.com", "y@example.com")
    await store.put("x@example.com", identity=OTHER, route=B)
    leased = await store.put("x@example.com", leased_at="a")
    deferred = await store.put("x@example.com", leased_at="a")
    await store.finish(deferred, moves(deferred, Result.DEFERRED))
    counts = await store.count()
    assert {key: (f.recipients, f.messages) for key, f in counts.by_route.items()} == {
        (A, False): (3, 2),  # ready, and under way
        (B, False): (1, 1),
        (A, True): (1, 1),
    }
    assert counts.by_route[A, False].octets == 2 * leased.message.size
    assert ready(counts.ready) == {(A, "uid-1"): 2, (B, "uid-2"): 1}
    assert (counts.messages, counts.oldest, counts.dead_letters) == (4, NOW, 0)
    assert counts.free_octets > 0


async def test_many_at_once_are_all_answered(store: StoreRig) -> None:
    answers = await asyncio.gather(
        *[
            store.accept(entry(store.next(), message("x@example.com"), "x@example.com"))
            for _ in range(1500)
        ]
    )
    assert answers == [None] * 1500
    assert len(await store.claim(want(messages=2000))) == 1500


async def test_a_queue_id_is_stored_once(store: StoreRig) -> None:
    put = await store.put("x@example.com")
    again = message("x@example.com", queue_id=put.message.queue_id)
    fine = entry(store.next(), message("x@example.com"), "x@example.com")
    twice = entry(store.next(), again, "x@example.com")
    answers = await asyncio.gather(store.accept(twice), store.accept(fine))
    assert answers[0] is not None and answers[0].reply.code == 451
    assert answers[1] is None, "one that cannot be stored does not take the others along"
    assert (await store.count()).messages == 2


async def test_a_length_that_does_not_fit_is_refused(store: StoreRig) -> None:
    whole = message("x@example.com")
    wrong = replace(whole, size=whole.size + 1)
    problem = await store.accept(entry(store.next(), wrong, "x@example.com"))
    assert problem is not None and problem.reply.code == 451


async def test_everything_is_there_after_a_restart(make_store: Callable[..., StoreRig]) -> None:
    store = make_store()
    store.open()
    body = b"y" * 400_000
    waiting = await store.put("x@example.com", "y@example.com", route=AB)
    large = await store.put("x@example.com", identity=OTHER, body=body)
    deferred = await store.put("x@example.com", leased_at="a")
    await store.finish(deferred, moves(deferred, Result.DEFERRED))
    leased = await store.put("x@example.com", route=AB, leased_at="b")
    await store.close()

    store = make_store()
    opened = store.open(now=NOW + 10, uncertain_until=NOW + 310)
    assert opened.next_seq == leased.seq + 1
    assert opened.messages == 4
    assert ready(opened.ready) == {(AB, "uid-1"): 2, (A, "uid-2"): 1}
    assert opened.next_at == pytest.approx(NOW + 30)
    assert [(f.queue_id, f.address, f.upstream) for f in opened.found] == [
        (leased.message.queue_id, "x@example.com", "b")
    ]
    (found,) = await store.claim(want(AB))
    assert found.message == waiting.message
    (found,) = await store.claim(want(sender="uid-2"))
    assert octets(found.message) == large.message.prelude + body
    await store.due(now=NOW + 1000)
    (again,) = await store.claim(want(Route(("b",), pinned=True)))
    assert again.message == leased.message
    assert again.recipients[0].pinned
    assert again.recipients[0].attempts == 1
    assert again.recipients[0].waited == 300.0
    (again,) = await store.claim(want(A))
    assert again.message == deferred.message


async def test_who_is_told_of_a_claim_was_told_before_of_what_it_found(store: StoreRig) -> None:
    """Asked for in one turn, they are one transaction; memory counts by what it is told."""
    told: list[str] = []
    claimed = asyncio.get_running_loop().create_future()

    def claim_done(jobs: Sequence[Job] | Problem) -> None:
        told.append("claimed" if jobs else "nothing to claim")
        claimed.set_result(None)

    store.store.claim([want()], LEASE, claim_done)
    store.store.accept(
        entry(1, message("x@example.com"), "x@example.com"), lambda _: told.append("accepted")
    )
    await claimed
    assert told in (["accepted", "claimed"], ["nothing to claim"])
