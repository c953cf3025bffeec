"""An upstream is told whose mail it gets; what it says of one tenant concerns nobody else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mailrelay_gateway.contract.attribution import Attribution
from mailrelay_gateway.contract.files import GatewayConfig
from mailrelay_gateway.contract.status import UpstreamState
from mailrelay_gateway.couriers.smtp.health import Probing
from mailrelay_gateway.message.effect import Scope
from mailrelay_gateway.message.envelope import Result
from mailrelay_gateway.reasons import Reason
from tests.integration.couriers.conftest import Rig
from tests.integration.couriers.memory_work import BODY, attempt
from tests.integration.couriers.scripted_server import Peer, polite, take_all

NEVER = Probing(first=3600, longest=3600, spread=0.0)
TENANT = Attribution(header="X-SES-TENANT", template="{namespace}")
WHO = Attribution(header="X-Who", template="{namespace}_{sender}")
PAUSED = "554 Message rejected: Sending paused for tenant team"


def attributed(rig: Rig, port: int, *attribution: Attribution, **more: Any) -> GatewayConfig:
    [upstream] = rig.config(port, **more).relay.upstreams
    return rig.config_of(upstream.model_copy(update={"attribution": attribution}))


@pytest.mark.parametrize("on_disk", [False, True], ids=["in memory", "from a file"])
async def test_the_upstream_gets_the_field(rig: Rig, tmp_path: Path, on_disk: bool) -> None:
    server = await rig.serve(polite)
    rig.run(attributed(rig, server.port, TENANT, WHO))
    body: bytes | Path = BODY
    if on_disk:
        body = tmp_path / "body"
        body.write_bytes(BODY)
    rig.work.add(attempt(1, body=body))
    await rig.work.until_finished(1)
    assert rig.work.results == [(Result.DELIVERED, Reason.DELIVERED)]
    [octets] = server.peers[0].bodies
    assert octets.startswith(b"X-SES-TENANT: team\r\nX-Who: team_app\r\nFrom: app@example.com\r\n")


async def test_new_attribution_takes_effect_with_the_next_message(rig: Rig) -> None:
    server = await rig.serve(polite)
    courier = rig.run(attributed(rig, server.port, TENANT))
    rig.work.add(attempt(1))
    await rig.work.until_finished(1)
    courier.configure(attributed(rig, server.port, WHO))
    rig.work.add(attempt(2))
    await rig.work.until_finished(2)
    assert server.peers[1].bodies[0].startswith(b"X-Who: team_app\r\nFrom")


async def test_mail_whose_tenant_cannot_be_told_is_not_sent(rig: Rig) -> None:
    server = await rig.serve(polite)
    courier = rig.run(attributed(rig, server.port, WHO))
    rig.work.add(attempt(1, name="a.b", uid="odd"), attempt(2))
    await rig.work.until_finished(2)
    refused, sent = rig.work.outcomes
    assert (refused.result, refused.reason) == (Result.HELD, Reason.ATTRIBUTION_INVALID)
    assert refused.scope is Scope.NAMESPACE
    assert "X-Who of MailSender team/a.b would be 'team_a.b'" in refused.detail
    assert sent.result is Result.DELIVERED
    assert len(server.peers[0].bodies) == 1
    [status] = courier.status()
    assert (status.state, rig.work.holds) == (UpstreamState.UP, [])
    assert [(one.uid, one.reason) for one in status.senders] == [("odd", "AttributionInvalid")]


async def test_a_paused_tenant_holds_its_own_mail_only(rig: Rig) -> None:
    async def pausing(peer: Peer) -> None:
        await peer.greet()
        await peer.take_message(final=PAUSED)
        await take_all(peer)

    server = await rig.serve(pausing)
    courier = rig.run(attributed(rig, server.port, TENANT), probing=NEVER)
    rig.work.add(attempt(1, uid="one"), attempt(2, uid="two"))
    await rig.work.until_finished(2)
    held, sent = rig.work.outcomes
    assert (held.result, held.reason) == (Result.HELD, Reason.UPSTREAM_TENANT_PAUSED)
    assert (held.scope, held.retry_after) == (Scope.NAMESPACE, 600.0)
    assert sent.result is Result.DELIVERED
    assert len(server.peers) == 1, "the connection goes on"
    [status] = courier.status()
    assert (status.state, rig.work.holds, rig.work.slowed) == (UpstreamState.UP, [], [])
    [fault] = status.senders
    assert (fault.uid, fault.reason) == ("one", "UpstreamTenantPaused")
    assert rig.metric(
        "delivery_attempts_total", upstream="smarthost", result="held", code_class="5xx"
    )


async def test_without_tenants_the_same_words_hold_the_upstream(rig: Rig) -> None:
    async def pausing(peer: Peer) -> None:
        await peer.greet()
        await peer.take_message(final=PAUSED)
        await peer.until_quit()

    server = await rig.serve(pausing)
    rig.run(rig.config(server.port), probing=NEVER)
    rig.work.add(attempt(1))
    await rig.work.until_finished(1)
    assert rig.work.results == [(Result.HELD, Reason.UPSTREAM_ACCOUNT_BLOCKED)]
    assert rig.state() is UpstreamState.HELD
