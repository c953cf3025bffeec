"""The Kubernetes client behind the port, against an HTTP server that answers as an API server
does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration

from mailrelay_operator.cluster import kube as kube_module
from mailrelay_operator.cluster.kube import Kube
from mailrelay_operator.cluster.port import (
    MAIL_RELAY,
    NAMESPACE,
    SECRET,
    STATEFUL_SET,
    ClusterError,
    Conflict,
    Expired,
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
    server.answers = [(200, {"metadata": {"resourceVersion": "7"}})] * 8
    await kube.get(MAIL_RELAY, "mail", "out")
    await kube.get(NAMESPACE, "team", "team")
    assert await kube.version(SECRET, "mail", "s") == "7"
    await kube.create(secret)
    await kube.apply(secret)
    await kube.apply(secret, force=False)
    await kube.apply_status(relay)
    await kube.delete(STATEFUL_SET, "mail", "out", uid="1", orphan=True)
    manager = {"fieldManager": "mailrelay", "force": "true"}
    assert [one[:3] for one in server.asked] == [
        ("GET", "/apis/mailrelay.dev/v1alpha1/namespaces/mail/mailrelays/out", {}),
        ("GET", "/api/v1/namespaces/team", {}),
        ("GET", "/api/v1/namespaces/mail/secrets/s", {"resourceVersion": "0"}),
        ("POST", "/api/v1/namespaces/mail/secrets", {"fieldManager": "mailrelay-create"}),
        ("PATCH", "/api/v1/namespaces/mail/secrets/s", manager),
        ("PATCH", "/api/v1/namespaces/mail/secrets/s", manager | {"force": "false"}),
        (
            "PATCH",
            "/apis/mailrelay.dev/v1alpha1/namespaces/mail/mailrelays/out/status",
            manager | {"fieldManager": "mailrelay-status"},
        ),
        ("DELETE", "/apis/apps/v1/namespaces/mail/statefulsets/out", {}),
    ]
    assert "PartialObjectMetadata" in server.headers[2]["Accept"]
    assert server.headers[4]["Content-Type"] == "application/apply-patch+yaml"
    assert server.asked[4][3] == secret
    assert server.asked[7][3]["preconditions"] == {"uid": "1"}
    assert server.asked[7][3]["propagationPolicy"] == "Orphan"


async def test_a_list_is_read_to_its_end_and_its_items_know_their_kind(
    server: Server, kube: Kube
) -> None:
    server.answers = [
        (200, {"items": [{"metadata": {"name": "a"}}], "metadata": {"continue": "x"}}),
        (200, {"items": [{"metadata": {"name": "b"}}], "metadata": {"resourceVersion": "9"}}),
    ]
    found, version = await kube.list(SECRET, None, labels={"b": "2", "a": "1"})
    assert version == "9"
    assert [(one["kind"], one["metadata"]["name"]) for one in found] == [
        ("Secret", "a"),
        ("Secret", "b"),
    ]
    assert [one[2] for one in server.asked] == [
        {"limit": "250", "labelSelector": "a=1,b=2"},
        {"limit": "250", "labelSelector": "a=1,b=2", "continue": "x"},
    ]


async def test_of_a_list_only_what_is_needed_is_kept_from_page_to_page(
    server: Server, kube: Kube
) -> None:
    """Tenants may write 256 KiB of annotations into each of thousands of objects."""
    trimmed: list[tuple[str, int]] = []

    def trim(found: dict[str, Any]) -> dict[str, Any]:
        trimmed.append((found["metadata"]["name"], len(server.asked)))
        return {"kind": found["kind"], "metadata": {"name": found["metadata"]["name"]}}

    noisy = {"example.com/noise": "x"}
    pages = [("a", {"continue": "x"}), ("b", {"resourceVersion": "9"})]
    server.answers = [
        (200, {"items": [{"metadata": {"name": name, "annotations": noisy}}], "metadata": more})
        for name, more in pages
    ]
    found, _ = await kube.list(SECRET, None, trim=trim)
    assert found == tuple({"kind": "Secret", "metadata": {"name": name}} for name in ("a", "b"))
    assert trimmed == [("a", 1), ("b", 2)]  # before the next page is asked for


async def test_a_list_that_expires_half_way_is_an_error_and_no_shorter_list(
    server: Server, kube: Kube
) -> None:
    server.answers = [
        (200, {"items": [{"metadata": {"name": "a"}}], "metadata": {"continue": "x"}}),
        (410, {"message": "the provided continue parameter is too old"}),
    ]
    with pytest.raises(Expired, match="too old"):
        await kube.list(SECRET, None)


def event(type_: str, version: str, **metadata: Any) -> bytes:
    found = {"type": type_, "object": {"metadata": {"resourceVersion": version, **metadata}}}
    return json.dumps(found).encode() + b"\n"


@pytest.fixture
async def stream() -> AsyncIterator[tuple[Kube, list[bytes], list[dict[str, str]]]]:
    """A client of a server that answers each watch with these pieces."""
    pieces: list[bytes] = []
    asked: list[dict[str, str]] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        asked.append(dict(request.query))
        response = web.StreamResponse()
        await response.prepare(request)
        for piece in pieces:
            await response.write(piece)
        return response

    application = web.Application()
    application.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made = Kube(ApiClient(Configuration(host=f"http://127.0.0.1:{runner.addresses[0][1]}")))
    try:
        yield made, pieces, asked
    finally:
        await made.close()
        await runner.cleanup()


async def test_a_watch_is_read_line_by_line_however_it_is_cut(
    stream: tuple[Kube, list[bytes], list[dict[str, str]]],
) -> None:
    kube, pieces, asked = stream
    large = event("MODIFIED", "8", name="a", annotations={"x": "y" * 200_000})
    whole = event("ADDED", "7", name="a", managedFields=[{}]) + large
    whole += event("BOOKMARK", "9") + event("DELETED", "10", name="a")
    pieces += [whole[:5], whole[5:90], whole[90:100_000], whole[100_000:]]
    found = [one async for one in kube.watch(SECRET, None, version="6", labels={"b": "1"})]
    assert [(one.version, one.gone) for one in found] == [
        ("7", False),
        ("8", False),
        ("9", False),
        ("10", True),
    ]
    assert found[0].found == {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"resourceVersion": "7", "name": "a"},
    }
    assert found[2].found is None
    assert asked[0]["resourceVersion"] == "6"
    assert asked[0]["allowWatchBookmarks"] == "true"
    assert asked[0]["labelSelector"] == "b=1"
    int(asked[0]["timeoutSeconds"])  # the real one answers 400 to anything else


@pytest.mark.parametrize(
    ("piece", "error"),
    [
        (b'{"type": "ERROR", "object": {"code": 410, "message": "too old"}}\n', Expired),
        (b'{"type": "ERROR", "object": {"code": 500, "message": "etcd"}}\n', Unavailable),
        (b"junk\n", Unavailable),
        (b"[]\n", Unavailable),
    ],
)
async def test_an_error_within_a_watch_is_an_error_and_no_end(
    stream: tuple[Kube, list[bytes], list[dict[str, str]]],
    piece: bytes,
    error: type[ClusterError],
) -> None:
    kube, pieces, _ = stream
    pieces.append(piece)
    with pytest.raises(error):
        async for _ in kube.watch(SECRET, None, version="6"):
            pass


async def test_a_watch_that_is_refused_says_so(server: Server, kube: Kube) -> None:
    server.answers = [(410, {"message": "too old"}), (403, {"message": "no right"})]
    for error in (Expired, Forbidden):
        with pytest.raises(error):
            async for _ in kube.watch(SECRET, None, version="6"):
                pass


async def test_a_webhook_that_fails_is_told_from_an_api_server_that_does(
    server: Server, kube: Kube
) -> None:
    server.answers = [(500, {"message": "failed calling webhook"}), (503, {"message": "away"})]
    for answered in (True, False):
        with pytest.raises(Unavailable) as caught:
            await kube.get(SECRET, "mail", "s")
        assert caught.value.answered is answered


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


@pytest.mark.parametrize(
    ("url", "proxies", "proxy"),
    [
        ("https://10.0.0.1:443", {}, None),
        ("https://10.0.0.1:443", {"https": "http://proxy:3128"}, "http://proxy:3128"),
        ("https://10.0.0.1:443", {"http": "http://proxy:3128"}, None),
        ("https://10.0.0.1:443", {"https": "http://proxy:3128", "no": "10.0.0.1"}, None),
        ("https://k8s.example.com", {"https": "http://proxy:3128", "no": ".example.com"}, None),
    ],
)
def test_the_proxy_is_the_one_of_the_environment(
    url: str, proxies: dict[str, str], proxy: str | None
) -> None:
    assert kube_module.proxy_for(url, proxies) == proxy


async def test_no_request_looks_for_a_proxy_or_a_netrc(tmp_path: Path) -> None:
    """aiohttp would: at every request, for more than half of the CPU that it takes."""
    kubeconfig = tmp_path / "kubeconfig"
    cluster = {"server": "http://127.0.0.1:1"}
    context = {"cluster": "here", "user": "me"}
    kubeconfig.write_text(
        json.dumps(
            {
                "clusters": [{"name": "here", "cluster": cluster}],
                "users": [{"name": "me", "user": {}}],
                "contexts": [{"name": "now", "context": context}],
                "current-context": "now",
            }
        )
    )
    kube = await kube_module.connect(kubeconfig=str(kubeconfig))
    try:
        with pytest.raises(Unavailable):
            await kube.get(SECRET, "mail", "s")
        session = kube._client.rest_client.pool_manager
        assert session is not None
        assert session.trust_env is False
    finally:
        await kube.close()


def test_every_call_has_a_deadline_shorter_than_the_api_servers_own() -> None:
    assert 0 < kube_module.CONNECT_DEADLINE < kube_module.CALL_DEADLINE < 60
