"""`mailrelay up` with a login by OAuth2: the example for Office 365, with a token endpoint and a
server of this machine in Microsoft's place.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.couriers.bearer import Provider, a_provider
from tests.integration.standalone.conftest import ROOT, Relay, mailrelay
from tests.peers.token_endpoint import CLIENT_ID, CLIENT_SECRET
from tests.ports import free_port
from tests.waiting import until


@pytest.fixture
async def microsoft(tmp_path: Path) -> AsyncIterator[Provider]:
    async with a_provider(tmp_path) as provider:
        yield provider


@pytest.fixture
def running() -> Iterator[list[Relay]]:
    """Relays that a test started."""
    started: list[Relay] = []
    yield started
    for one in started:
        one.kill()


def brought_here(microsoft: Provider, **login: Any) -> str:
    """The example with this machine's addresses."""
    objects = list(yaml.safe_load_all((ROOT / "examples" / "5-office365.yaml").read_text()))
    for one in objects:
        if one["kind"] == "Secret":
            one["stringData"] = {"client-secret": CLIENT_SECRET}
        elif one["kind"] == "MailRelay":
            one["spec"]["listeners"][0]["port"] = free_port()
            smarthost = one["spec"]["upstreams"][0]["smarthost"]
            smarthost["hosts"] = [{"host": "127.0.0.1", "port": microsoft.server.port}]
            smarthost["tls"] = {"mode": "None"}
            smarthost["auth"]["oauth2"] |= {
                "tokenURL": microsoft.endpoint.url,
                "clientID": CLIENT_ID,
                "tokenCARef": {"kind": "ConfigMap", "name": "endpoint-ca"},
                **login,
            }
    authority = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "endpoint-ca"},
        "data": {"ca.crt": microsoft.authority.pem},
    }
    return str(yaml.safe_dump_all([*objects, authority]))


async def start(text: str, folder: Path, running: list[Relay], *extra: str) -> Relay:
    (folder / "office365.yaml").write_text(text)
    relay = Relay(folder / "office365.yaml", folder / "data", 0, free_port(), extra)
    running.append(relay)
    return await asyncio.to_thread(relay.start)


async def test_the_example_delivers_with_a_token(
    microsoft: Provider, running: list[Relay], tmp_path: Path
) -> None:
    relay = await start(brought_here(microsoft), tmp_path, running, "--allow-egress", "127.0.0.0/8")
    sent = await asyncio.to_thread(
        mailrelay, "send", "--data", relay.data, "--to", "someone@example.net"
    )
    assert sent.returncode == 0, sent.stderr
    await until(lambda: bool(microsoft.bodies), "the mail")
    log = (relay.data / "gateway.log").read_text()
    assert "oauth_token_fetched" in log
    assert CLIENT_SECRET not in log
    assert not [token for token in microsoft.endpoint.tokens if token[:40] in log]
    metrics = await asyncio.to_thread(relay.ask, "/metrics")
    assert b'mailrelay_oauth_token_expiry_seconds{upstream="office365"} 35' in metrics


async def test_what_is_wrong_is_seen_without_a_mail(
    microsoft: Provider, running: list[Relay], tmp_path: Path
) -> None:
    microsoft.endpoint.client_secret = "another"
    relay = await start(brought_here(microsoft), tmp_path, running, "--allow-egress", "127.0.0.0/8")

    async def told() -> bool:
        done = await asyncio.to_thread(mailrelay, "status", "--json", "--data", relay.data)
        return "invalid_client (7000215): AADSTS7000215" in done.stdout

    await until(told, "the endpoint's own words in the status")


async def test_loopback_is_no_place_for_a_url_unless_it_is_allowed(
    microsoft: Provider, running: list[Relay], tmp_path: Path
) -> None:
    relay = await start(brought_here(microsoft), tmp_path, running)

    async def told() -> bool:
        done = await asyncio.to_thread(mailrelay, "status", "--json", "--data", relay.data)
        return "--allow-egress of mailrelay up" in done.stdout

    await until(told, "what to do in the status")
    assert not microsoft.endpoint.forms


async def test_a_federated_login_names_the_file_that_it_lacks(
    microsoft: Provider, running: list[Relay], tmp_path: Path
) -> None:
    objects = list(yaml.safe_load_all(brought_here(microsoft, flow="Federated")))
    for one in objects:
        if one["kind"] == "MailRelay":
            del one["spec"]["upstreams"][0]["smarthost"]["auth"]["oauth2"]["clientSecretRef"]
    text = str(yaml.safe_dump_all(objects))
    folder = tmp_path / "tokens"
    relay = await start(
        text, tmp_path, running, "--allow-egress", "127.0.0.0/8", "--tokens", str(folder)
    )

    async def told() -> bool:
        done = await asyncio.to_thread(mailrelay, "status", "--json", "--data", relay.data)
        return f"cannot be read from {folder}/api-AzureADTokenExchange-" in done.stdout

    await until(told, "the file in the status")
