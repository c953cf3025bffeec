"""Every queue store: recipients change their route, and messages come from peers, once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mailrelay_gateway.message.envelope import Result
from mailrelay_gateway.message.route import Route, Sketch
from mailrelay_gateway.queue.item import Move, Recipient, State
from mailrelay_gateway.reasons import Reason
from tests.integration.store.rig import (
    AB,
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

GONE = Route(("gone",))
GONE_TOO = Route(("gone", "too"))


async def test_stale_routes_are_given_up_page_by_page(store: StoreRig) -> None:
    seen: list[Sketch] = []

    def choose(sketch: Sketch) -> Route:
        seen.append(sketch)
        return GONE if sketch.address.startswith("stays") else B

    for n in range(10):
        await store.put(f"x{n}@example.com", "stays@example.com", route=GONE)
    await store.put("x@example.com", route=A)
    await store.put("x@example.com", route=GONE_TOO, identity=OTHER)
    total = 0
    pages = 0
    moved: dict[tuple[Route, str, Route], int] = {}
    while True:
        page = await store.reroute([GONE, GONE_TOO], choose, most=3)
        pages += 1
        total += page.recipients
        assert page.recipients <= 3
        for (before, after), count in page.ready.items():
            assert before.sender == after.sender
            key = (before.route, before.sender, after.route)
            moved[key] = moved.get(key, 0) + count
        if not page.more:
            break
    assert (total, pages) == (11, 4)
    assert moved == {(GONE, "uid-1", B): 10, (GONE_TOO, "uid-2", B): 1}
    assert len(seen) == 21, "one that stays is looked at once in a run"
    assert seen[0].identity == TEAM and seen[0].sender == "sender@example.org"
    assert ready((await store.count()).ready) == {
        (GONE, "uid-1"): 10,
        (A, "uid-1"): 1,
        (B, "uid-1"): 10,
        (B, "uid-2"): 1,
    }
    again = await store.reroute([GONE], lambda _: B, most=1000)
    assert (again.recipients, again.more) == (10, False), "another run looks at all again"


async def test_rerouting_unpins_but_never_touches_what_is_being_tried(store: StoreRig) -> None:
    uncertain = await store.put("x@example.com", route=GONE, leased_at="gone")
    assert await store.finish(uncertain, moves(uncertain, Result.UNCERTAIN)) is None
    deferred = await store.put("x@example.com", route=GONE, leased_at="gone")
    assert await store.finish(deferred, moves(deferred, Result.DEFERRED)) is None
    leased = await store.put("x@example.com", route=GONE, leased_at="gone")
    page = await store.reroute([GONE, GONE.pinned_to("gone")], lambda _: AB, most=1000)
    assert (page.recipients, dict(page.ready), page.more) == (2, {}, False)
    for job, state in ((uncertain, State.UNCERTAIN), (deferred, State.DEFERRED)):
        known = await store.find(job.message.queue_id)
        assert known is not None
        ((recipient, found, route),) = known.recipients
        assert (recipient.pinned, found, route) == (False, state, AB)
    known = await store.find(leased.message.queue_id)
    assert known is not None and known.recipients[0][2] == GONE


async def test_after_a_change_of_routes_all_that_waits_is_looked_at(store: StoreRig) -> None:
    def choose(sketch: Sketch) -> Route:
        assert sketch.queue_id
        return A if sketch.address.startswith("first") else B

    seen = [await store.put("first@x", "second@x", route=AB) for _ in range(4)]
    right = await store.put("first@x", route=A)
    deferred = await store.put("second@x", route=A, leased_at="a")
    assert await store.finish(deferred, moves(deferred, Result.DEFERRED)) is None
    uncertain = await store.put("first@x", route=B, leased_at="b")
    assert await store.finish(uncertain, moves(uncertain, Result.UNCERTAIN)) is None
    leased = await store.put("first@x", route=B, leased_at="b")
    pages = [await store.reroute(None, choose, most=3)]
    while pages[-1].more:
        pages.append(await store.reroute(None, choose, most=3))
    assert [page.recipients for page in pages] == [3, 3, 3]
    found = {}
    for job in (*seen, right, deferred, uncertain, leased):
        known = await store.find(job.message.queue_id)
        assert known is not None
        found[job.message.queue_id] = [route for _, _, route in known.recipients]
    expected = {job.message.queue_id: [A, B] for job in seen}
    expected[right.message.queue_id] = [A]
    expected[deferred.message.queue_id] = [B]
    expected[uncertain.message.queue_id] = [B.pinned_to("b")]  # perhaps delivered: only there
    expected[leased.message.queue_id] = [B]
    assert found == expected


async def test_an_unknown_route_is_nobodys(store: StoreRig) -> None:
    await store.put("x@example.com")
    page = await store.reroute([Route(("never",))], lambda _: B, most=10)
    assert (page.recipients, page.more) == (0, False)
    assert await store.claim(want(Route(("never",)))) == []
    assert await store.claim(want(sender="nobody")) == []


async def test_a_message_of_a_peer_keeps_its_state(store: StoreRig) -> None:
    theirs = message("a@x", "b@x", "c@x", "d@x")
    recipients = [Recipient(n, address) for n, address in enumerate(("a@x", "b@x", "c@x", "d@x"))]
    first = NOW - 1000
    states_there = {
        1: Move(
            recipient=replace(recipients[1], attempts=3, first_tried_at=first, waited=600.0),
            state=State.DEFERRED,
            route=AB,
            reason=Reason.UPSTREAM_DEFERRED,
            next_at=NOW + 50,
            reply="451 later",
        ),
        2: Move(
            recipient=replace(recipients[2], attempts=1, first_tried_at=first, pinned=True),
            state=State.UNCERTAIN,
            route=B,
            reason=Reason.REPLY_LOST,
            next_at=NOW + 500,
        ),
        3: Move(recipient=recipients[3], state=None, route=A, reason=Reason.DELIVERED),
    }
    handed = entry(store.next(), theirs, "a@x", "b@x", "c@x", "d@x")
    assert await store.adopt(handed, states_there) is None
    known = await store.find(theirs.queue_id)
    assert known is not None and known.message is not None
    assert octets(known.message) == octets(theirs)
    assert [(r.index, state, route) for r, state, route in known.recipients] == [
        (0, State.READY, A),
        (1, State.DEFERRED, AB),
        (2, State.UNCERTAIN, B),
    ]
    assert known.recipients[1][0] == states_there[1].recipient
    assert known.recipients[2][0] == states_there[2].recipient
    assert (await store.due(now=NOW)).next_at == NOW + 50


@pytest.mark.parametrize("large", [False, True])
async def test_a_queue_id_is_adopted_once_even_after_it_left(store: StoreRig, large: bool) -> None:
    theirs = message("a@x")
    body = store.write_body(theirs.queue_id, b"p" * (400_000 if large else 100))
    theirs = message("a@x", queue_id=theirs.queue_id, body=body)
    assert await store.adopt(entry(store.next(), theirs, "a@x"), {}) is None
    assert await store.adopt(entry(store.next(), theirs, "a@x"), {}) is None
    assert (await store.count()).messages == 1
    (job,) = await store.claim(want())
    assert octets(job.message) == octets(theirs)
    assert await store.finish(job, moves(job, Result.DELIVERED), now=NOW + 5) is None
    store.write_body(theirs.queue_id, b"p" * (400_000 if large else 100))
    assert await store.adopt(entry(store.next(), theirs, "a@x"), {}) is None
    assert (await store.count()).messages == 0
    assert not store.store.body_path(theirs.queue_id).exists()
    known = await store.find(theirs.queue_id)
    assert known is not None and known.message is None and known.left_at == NOW + 5
    assert states(known) == []


async def test_a_message_of_our_own_is_not_adopted_over(store: StoreRig) -> None:
    ours = await store.put("x@example.com", body=b"q" * 400_000)
    assert await store.adopt(entry(store.next(), ours.message, "x@example.com"), {}) is None
    (job,) = await store.claim(want())
    assert octets(job.message) == octets(ours.message)
