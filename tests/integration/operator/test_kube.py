"""The Kubernetes client behind the port, against an HTTP server that answers as an API server
does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration

from mailrelay_gateway.config import GatewayStatus
from mailrelay_operator.cluster import kube as kube_module
from mailrelay_operator.cluster.gateways import GatewayPods
from mailrelay_operator.cluster.kube import Kube
from mailrelay_operator.cluster.port import (
    MAIL_RELAY,
    NAMESPACE,
    SECRET,
    STATEFUL_SET,
    ClusterError,
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    Unavailable,
)


class Server:
    """Answers what a test puts into `answers`, in order, and remembers what it was asked."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, Any]] = []
        self.asked: list[tuple[str, str, dict[str, str], Any]] = []
        self.headers: list[dict[str, str]] = []
        self.port = 0
        self.silent = asyncio.Event()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.text()
        query = dict(request.query)
        self.asked.append((request.method, request.path, query, json.loads(body) if body else None))
        self.headers.append(dict(request.headers))
        status, content = self.answers.pop(0)
        if content is None:
            await self.silent.wait()
        return web.json_response(content, status=status)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", made.answer)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.port = runner.addresses[0][1]
    try:
        yield made
    finally:
        made.silent.set()
        await runner.cleanup()


@pytest.fixture
async def kube(server: Server) -> AsyncIterator[Kube]:
    made = Kube(ApiClient(Configuration(host=f"http://127.0.0.1:{server.port}")))
    try:
        yield made
    finally:
        await made.close()


async def test_paths_and_verbs_are_those_of_kubernetes(server: Server, kube: Kube) -> None:
    relay = {
        "apiVersion": "mailrelay.dev/v1alpha1",
        "kind": "MailRelay",
        "metadata": {"name": "out", "namespace": "mail"},
        "status": {},
    }
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "mail"}}
    server.answers = [(200, {"metadata": {"resourceVersion": "7"}})] * 7
    await kube.get(MAIL_RELAY, "mail", "out")
    await kube.get(NAMESPACE, "team", "team")
    assert await kube.version(SECRET, "mail", "s") == "7"
    await kube.create(secret)
    await kube.apply(secret)
    await kube.apply_status(relay)
    await kube.delete(STATEFUL_SET, "mail", "out", uid="1", orphan=True)
    manager = {"fieldManager": "mailrelay"}
    assert [one[:3] for one in server.asked] == [
        ("GET", "/apis/mailrelay.dev/v1alpha1/namespaces/mail/mailrelays/out", {}),
        ("GET", "/api/v1/namespaces/team", {}),
        ("GET", "/api/v1/namespaces/mail/secrets/s", {}),
        ("POST", "/api/v1/namespaces/mail/secrets", manager),
        ("PATCH", "/api/v1/namespaces/mail/secrets/s", manager | {"force": "true"}),
        (
            "PATCH",
            "/apis/mailrelay.dev/v1alpha1/namespaces/mail/mailrelays/out/status",
            manager | {"force": "true"},
        ),
        ("DELETE", "/apis/apps/v1/namespaces/mail/statefulsets/out", {}),
    ]
    assert "PartialObjectMetadata" in server.headers[2]["Accept"]
    assert server.headers[4]["Content-Type"] == "application/apply-patch+yaml"
    assert server.asked[4][3] == secret
    assert server.asked[6][3]["preconditions"] == {"uid": "1"}
    assert server.asked[6][3]["propagationPolicy"] == "Orphan"


async def test_a_list_is_read_to_its_end_and_its_items_know_their_kind(
    server: Server, kube: Kube
) -> None:
    server.answers = [
        (200, {"items": [{"metadata": {"name": "a"}}], "metadata": {"continue": "x"}}),
        (200, {"items": [{"metadata": {"name": "b"}}], "metadata": {}}),
    ]
    found = await kube.list(SECRET, None, labels={"b": "2", "a": "1"})
    assert [(one["kind"], one["metadata"]["name"]) for one in found] == [
        ("Secret", "a"),
        ("Secret", "b"),
    ]
    assert [one[2] for one in server.asked] == [
        {"limit": "500", "labelSelector": "a=1,b=2"},
        {"limit": "500", "labelSelector": "a=1,b=2", "continue": "x"},
    ]


async def test_a_list_that_expires_half_way_is_an_error_and_no_shorter_list(
    server: Server, kube: Kube
) -> None:
    server.answers = [
        (200, {"items": [{"metadata": {"name": "a"}}], "metadata": {"continue": "x"}}),
        (410, {"message": "the provided continue parameter is too old"}),
    ]
    with pytest.raises(Unavailable, match="too old"):
        await kube.list(SECRET, None)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, Invalid),
        (401, Forbidden),
        (403, Forbidden),
        (404, NotFound),
        (409, Conflict),
        (422, Invalid),
        (429, Unavailable),
        (500, Unavailable),
        (503, Unavailable),
    ],
)
async def test_errors_become_ours_with_the_servers_own_words(
    server: Server, kube: Kube, status: int, error: type[ClusterError]
) -> None:
    server.answers = [(status, {"kind": "Status", "message": "its own words"})]
    with pytest.raises(error, match="reading Secret s: its own words"):
        await kube.get(SECRET, "mail", "s")


async def test_deleting_what_is_gone_is_fine(server: Server, kube: Kube) -> None:
    server.answers = [(404, {"message": "not found"})]
    await kube.delete(STATEFUL_SET, "mail", "out", uid="1")


async def test_no_server_is_no_answer() -> None:
    kube = Kube(ApiClient(Configuration(host="http://127.0.0.1:1")))
    try:
        with pytest.raises(Unavailable, match="cannot be reached"):
            await kube.get(SECRET, "mail", "s")
    finally:
        await kube.close()


def test_every_call_has_a_deadline_shorter_than_the_api_servers_own() -> None:
    assert 0 < kube_module.CONNECT_DEADLINE < kube_module.CALL_DEADLINE < 60


async def test_a_gateway_is_asked_with_its_token(server: Server) -> None:
    pods = GatewayPods(port=server.port, deadline=0.2)
    status = GatewayStatus(version="1", digest="abc", started_at="2026-01-01T00:00:00Z")
    server.answers = [
        (200, status.model_dump(mode="json", by_alias=True)),
        (401, {}),
        (503, {}),
        (200, {"nonsense": True}),
        (200, None),
    ]
    try:
        assert await pods.status("127.0.0.1", "token") == status
        assert server.headers[0]["Authorization"] == "Bearer token"
        for error, words in (
            (Forbidden, "does not know our token"),
            (Unavailable, "HTTP 503"),
            (Unavailable, "not a gateway's status"),
            (Unavailable, "no answer within 0.2 s"),
        ):
            with pytest.raises(error, match=words):
                await pods.status("127.0.0.1", "token")
    finally:
        await pods.close()
