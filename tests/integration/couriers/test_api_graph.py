"""Microsoft Graph: mail reaches the recipients of the envelope and nobody else, whatever the header
says, and tokens and throttling are heeded.
"""

from __future__ import annotations

from aiohttp import web

from mailrelay_gateway.message.effect import Elsewhere
from mailrelay_gateway.message.envelope import Result
from mailrelay_gateway.reasons import Reason
from tests.integration.couriers.api_rig import (
    Api,
    api,
    in_turn,
    office,
)
from tests.integration.couriers.conftest import Rig
from tests.integration.couriers.memory_work import attempt
from tests.peers.mail_apis import Graph
from tests.peers.token_endpoint import TokenEndpoint

__all__ = ["api", "office"]  # fixtures


async def test_graph_sends_to_the_recipients_only(
    api: Api, rig: Rig, office: tuple[Graph, TokenEndpoint]
) -> None:
    graph, endpoint = office
    api.run(api.graph(graph, endpoint, rewrite=True))
    body = b"From: a@example.com\r\nTo: one@example.net, x@example.net\r\n\r\n.\r\nbody\r\n"
    rig.work.add(attempt(recipients=["one@example.net", "two@example.net"], body=body))
    outcomes = await rig.work.until_finished()
    assert [o.result for o in outcomes] == [Result.DELIVERED] * 2
    assert graph.taken[0].raw == (
        b"From: a@example.com\r\nTo: one@example.net\r\nBcc: two@example.net\r\n\r\n.\r\nbody\r\n"
    )


async def test_graph_refuses_to_reach_others(
    api: Api, rig: Rig, office: tuple[Graph, TokenEndpoint]
) -> None:
    graph, endpoint = office
    api.run(api.graph(graph, endpoint))
    body = b"From: a@example.com\r\nTo: x@example.net\r\n\r\nbody\r\n"
    rig.work.add(attempt(body=body))
    (outcome,) = await rig.work.until_finished()
    assert outcome.reason is Reason.ENVELOPE_MISMATCH
    assert "names x@example.net" in outcome.detail
    assert outcome.effect == Elsewhere()
    assert graph.requests == 0


async def test_graph_reaches_nobody_else_by_a_long_header(
    api: Api, rig: Rig, office: tuple[Graph, TokenEndpoint]
) -> None:
    graph, endpoint = office
    api.run(api.graph(graph, endpoint, rewrite=True))
    long = b"X-Long: x\r\n" * 25_000
    rig.work.add(attempt(body=b"To: x@example.net\r\n" + long + b"\r\nbody\r\n"))
    await rig.work.until_finished()
    assert graph.taken[0].raw == long + b"Bcc: one@example.net\r\n\r\nbody\r\n"


async def test_graph_after_revoked_tokens_and_throttling(
    api: Api, rig: Rig, office: tuple[Graph, TokenEndpoint]
) -> None:
    graph, endpoint = office
    api.run(api.graph(graph, endpoint))
    rig.work.add(attempt(0))
    await rig.work.until_finished(1)
    endpoint.revoke()
    rig.work.add(attempt(1))
    await rig.work.until_finished(2)
    assert {result for result, _ in rig.work.results} == {Result.DELIVERED}
    throttled = web.json_response(
        {"error": {"code": "ApplicationThrottled", "message": "MailboxConcurrency"}},
        status=429,
        headers={"Retry-After": "17"},
    )
    graph.fault = in_turn(throttled)
    rig.work.add(attempt(2))
    await rig.work.until_finished(3)
    assert rig.work.outcomes[-1].reason is Reason.UPSTREAM_THROTTLED
    assert rig.work.outcomes[-1].retry_after == 17
