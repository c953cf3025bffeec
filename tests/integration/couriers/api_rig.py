"""The rig's courier for one API upstream, and providers for it to deliver to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from mailrelay_gateway.contract import api_upstreams, oauth2
from mailrelay_gateway.contract.files import GatewayConfig
from mailrelay_gateway.contract.oauth2 import OAuth2, SaslMechanism
from mailrelay_gateway.contract.status import UpstreamState
from mailrelay_gateway.couriers.api.courier import ApiCourier
from mailrelay_gateway.couriers.api.sigv4 import AwsKeys
from mailrelay_gateway.couriers.smtp.deadlines import Deadlines
from mailrelay_gateway.egress.client import Egress
from mailrelay_gateway.egress.rules import Rules
from tests.integration.couriers.conftest import PROBING, Rig
from tests.integration.couriers.memory_work import UPSTREAM
from tests.models import made
from tests.peers.mail_apis import REGION, ROLE, Graph, Ses
from tests.peers.token_endpoint import CLIENT_ID, CLIENT_SECRET, SCOPE, TokenEndpoint

LOOPBACK = Rules(allowed=(ip_network("127.0.0.0/8"),), loopback=True)
KEYS = AwsKeys(access_key_id="AKIA1", secret_access_key="secret/of+ours")
AUDIENCE = "sts.amazonaws.com"


@dataclass
class Api:
    """The rig's courier for one API upstream."""

    rig: Rig
    tokens: Path
    courier: ApiCourier = field(init=False)

    def ses(self, peer: Ses, credentials: Any = None, **changes: Any) -> Any:
        given = credentials or api_upstreams.AccessKey(
            access_key_id=KEYS.access_key_id,
            secret_access_key=KEYS.secret_access_key,
            session_token="",
        )
        settings = {
            "url": peer.url,
            "region": REGION,
            "ca": self.rig.authority.pem,
            "credentials": given,
            "configuration_set": "",
            "tenant": "",
        }
        return api_upstreams.Ses(**(settings | changes))

    def web_identity(self, peer: Ses) -> Any:
        return api_upstreams.WebIdentity(
            role_arn=ROLE, audience=AUDIENCE, sts_url=f"{peer.url}/sts"
        )

    def graph(self, peer: Graph, endpoint: TokenEndpoint, *, rewrite: bool = False) -> Any:
        return api_upstreams.Graph(
            url=peer.url,
            ca=self.rig.authority.pem,
            mailbox=peer.mailbox,
            login=OAuth2(
                username=peer.mailbox,
                mechanism=SaslMechanism.XOAUTH2,
                token_url=endpoint.url,
                ca=self.rig.authority.pem,
                scopes=(SCOPE,),
                grant=oauth2.ClientCredentials(client_id=CLIENT_ID, client_secret=CLIENT_SECRET),
            ),
            rewrite_recipients=rewrite,
        )

    def config(
        self, service: Any, connections: int = 4, *, null_sender: str = "", **fields: Any
    ) -> GatewayConfig:
        settings = api_upstreams.Api(service=service)
        upstream = made.upstream(
            name=UPSTREAM, settings=settings, connections=connections, **fields
        )
        config = self.rig.config_of(upstream)
        relay = config.relay.model_copy(update={"null_sender": null_sender})
        return replace(config, relay=relay)

    def run(
        self,
        service: Any,
        *,
        connections: int = 4,
        rules: Rules = LOOPBACK,
        deadlines: Deadlines | None = None,
        **fields: Any,
    ) -> None:
        config = self.config(service, connections, **fields)
        self.rig.metrics.configure(config)
        self.courier = ApiCourier(
            self.rig.work,
            self.rig.metrics,
            egress=Egress(self.rig.names, rules),
            tokens=self.tokens,
            probing=PROBING,
            deadlines=deadlines,
        )
        self.courier.prepare(config)
        self.rig.work.wake = self.courier.wake
        self.courier.configure(config)

    @property
    def state(self) -> UpstreamState:
        return self.courier.status()[0].state


@pytest.fixture
async def api(rig: Rig, tmp_path: Path) -> AsyncIterator[Api]:
    found = Api(rig, tmp_path)
    yield found
    await found.courier.stop(0.2)


@pytest.fixture
async def ses(rig: Rig) -> AsyncIterator[Ses]:
    peer = Ses(rig.authority.server_context("127.0.0.1"), keys={KEYS.access_key_id: KEYS})
    async with peer:
        yield peer


@pytest.fixture
async def office(rig: Rig) -> AsyncIterator[tuple[Graph, TokenEndpoint]]:
    context = rig.authority.server_context("127.0.0.1")
    async with AsyncExitStack() as stack:
        endpoint = await stack.enter_async_context(TokenEndpoint(context))
        graph = await stack.enter_async_context(Graph(context, good=endpoint.good))
        yield graph, endpoint


def in_turn(*answers: web.Response | None) -> Callable[[web.Request], web.Response | None]:
    """One answer after the other, then none."""
    left = list(answers)
    return lambda request: left.pop(0) if left else None


def refusal(status: int, code: str, words: str) -> web.Response:
    return web.json_response({"message": words}, status=status, headers={"x-amzn-ErrorType": code})
