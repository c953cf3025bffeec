"""The admin port over TLS: probed from the first moment, verified as soon as there is a
configuration, renewed without a restart."""

from __future__ import annotations

import asyncio
import http.client
import socket
import ssl
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mailrelay_gateway.contract.documents import Certificate
from mailrelay_operator.cluster.gateways import GatewayPods
from mailrelay_operator.cluster.port import Forbidden
from mailrelay_operator.engine.minting import mint_authority, mint_leaf
from mailrelay_operator.plan.facts import LeafWanted
from tests.peers.gateway import TOKEN, GatewayProcess, plain_listener, relay, sandbox
from tests.ports import free_port
from tests.waiting import until

NAME = "out.mail.svc"
AUTHORITY = mint_authority("mail/out", now=datetime.now(UTC))


def leaf(*, by: object = None) -> Certificate:
    wanted = LeafWanted(dns_names=(NAME,), addresses=())
    return mint_leaf(wanted, by or AUTHORITY, now=datetime.now(UTC))  # type: ignore[arg-type]


def trusting_the_relay() -> ssl.SSLContext:
    return ssl.create_default_context(cadata=AUTHORITY.certificate)


def as_a_kubelet_does() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class Verified(http.client.HTTPSConnection):
    """As the operator asks: at an address, for a name."""

    def connect(self) -> None:
        http.client.HTTPConnection.connect(self)
        self.sock = self._context.wrap_socket(self.sock, server_hostname=NAME)  # type: ignore[attr-defined]


async def ask(gateway: GatewayProcess, path: str, context: ssl.SSLContext) -> int:
    """The HTTP status; 0 when nobody listens yet."""

    def get() -> int:
        connection = Verified("127.0.0.1", gateway.admin_port, context=context, timeout=5)
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        except ConnectionRefusedError:
            return 0
        finally:
            connection.close()

    return await asyncio.to_thread(get)


async def is_verified(gateway: GatewayProcess) -> bool:
    try:
        return await ask(gateway, "/metrics", trusting_the_relay()) == 200
    except ssl.SSLCertVerificationError:
        return False


async def until_answered(
    gateway: GatewayProcess, path: str, context: ssl.SSLContext, code: int
) -> None:
    async def is_answered() -> bool:
        return await ask(gateway, path, context) == code

    await until(is_answered, f"{path} with {code}")


@pytest.fixture
def document_port() -> int:
    return free_port()


async def test_a_waiting_gateway_is_probed_and_a_configured_one_verified(
    tmp_path: Path, document_port: int
) -> None:
    gateway = GatewayProcess(tmp_path, "--admin-tls")
    document = relay([plain_listener(document_port)], [sandbox()])
    try:
        await gateway.start(wait=False)
        await until_answered(gateway, "/livez", as_a_kubelet_does(), 200)
        with pytest.raises(ssl.SSLCertVerificationError):
            await ask(gateway, "/status", trusting_the_relay())
        gateway.write(document.model_copy(update={"admin_certificate": leaf()}))
        await until_answered(gateway, "/readyz", as_a_kubelet_does(), 200)
        # Verified, name and chain; and the token is asked for as ever.
        assert await ask(gateway, "/status", trusting_the_relay()) == 401
        # One that cannot be used changes nothing.
        broken = Certificate(chain="no certificate", key="no key")
        gateway.write(document.model_copy(update={"admin_certificate": broken, "suspend": True}))
        await until(lambda: gateway.log_lines("admin_certificate_refused"))
        assert await ask(gateway, "/metrics", trusting_the_relay()) == 200
        # Another relay's is not ours.
        foreign = leaf(by=mint_authority("mail/other", now=datetime.now(UTC)))
        gateway.write(document.model_copy(update={"admin_certificate": foreign}))

        async def is_refused() -> bool:
            return not await is_verified(gateway)

        await until(is_refused)
        assert await gateway.stop() == 0
    finally:
        await gateway.kill()


async def test_plain_http_is_not_answered_there(tmp_path: Path, document_port: int) -> None:
    gateway = GatewayProcess(tmp_path, "--admin-tls")
    gateway.write(relay([plain_listener(document_port)], [sandbox()]))
    try:
        await gateway.start(wait=False)
        await until_answered(gateway, "/readyz", as_a_kubelet_does(), 200)
        code, _ = await gateway.get("/metrics")
        assert code == 0
    finally:
        await gateway.kill()


async def test_handshakes_that_never_begin_keep_no_probe_out(tmp_path: Path) -> None:
    gateway = GatewayProcess(tmp_path, "--admin-tls")
    gateway.write(relay([plain_listener(free_port())], [sandbox()]))
    await gateway.start(wait=False)
    try:
        await until_answered(gateway, "/readyz", as_a_kubelet_does(), 200)
        with ExitStack() as stack:
            for _ in range(300):
                stack.enter_context(socket.create_connection(("127.0.0.1", gateway.admin_port)))
            assert await ask(gateway, "/livez", as_a_kubelet_does()) == 200
    finally:
        await gateway.kill()


async def test_the_operator_s_own_client_gets_the_status(
    tmp_path: Path, document_port: int
) -> None:
    gateway = GatewayProcess(tmp_path, "--admin-tls")
    document = relay([plain_listener(document_port)], [sandbox()])
    gateway.write(document.model_copy(update={"admin_certificate": leaf()}))
    pods = GatewayPods(port=gateway.admin_port)
    try:
        await gateway.start(wait=False)
        await until_answered(gateway, "/readyz", as_a_kubelet_does(), 200)
        trust = {"authority": AUTHORITY.certificate, "name": NAME}
        found = await pods.status("127.0.0.1", TOKEN, **trust)
        assert found.accepting
        with pytest.raises(Forbidden):
            await pods.status("127.0.0.1", "another token", **trust)
    finally:
        await pods.close()
        await gateway.kill()
