"""A defect of ours, wherever it strikes, costs neither a message nor a connection's place."""

from __future__ import annotations

import pytest

from mailrelay_gateway.message.effect import Effect
from mailrelay_gateway.message.envelope import Result
from mailrelay_gateway.message.lane import LaneKey
from mailrelay_gateway.reasons import Reason
from tests.integration.couriers.conftest import Rig
from tests.integration.couriers.memory_work import MemoryWork, attempt
from tests.integration.couriers.scripted_server import Peer, take_all

pytestmark = pytest.mark.both_loops

DELIVERED = (Result.DELIVERED, Reason.DELIVERED)


class DefectiveWork(MemoryWork):
    """A queue that cannot be told to slow down."""

    def slow(self, lane: LaneKey, effect: Effect, retry_after: float | None) -> None:
        raise OverflowError("date value out of range")


async def test_a_reply_that_we_fail_on_ends_its_attempt_and_no_other(rig: Rig) -> None:
    async def throttling(peer: Peer) -> None:
        await peer.greet()
        await peer.take_message(final="451 4.7.0 slow down")
        await take_all(peer)

    server = await rig.serve(throttling, throttling, take_greeted)
    rig.work = DefectiveWork()
    rig.run(rig.config(server.port, connections=1))
    rig.work.add(*(attempt(number) for number in range(4)))
    await rig.work.until_finished(4)
    ours = (Result.DEFERRED, Reason.INTERNAL_ERROR)
    assert rig.work.results == [ours, ours, DELIVERED, DELIVERED]


async def take_greeted(peer: Peer) -> None:
    await peer.greet()
    await take_all(peer)
