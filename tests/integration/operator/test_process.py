"""The operator as a process, with kopf and all, against a small API server: it watches, answers
probes, and stops."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from tests.peers.gateway import free_port

OURS = ("mailrelays", "mailsenders", "maildomains")
DEADLINE = 20.0


class ApiServer:
    """Discovery, empty lists, and watches that stay open; everything else is a write, and
    remembered."""

    def __init__(self) -> None:
        self.watched: set[str] = set()
        self.writes: list[str] = []
        self.objects: dict[str, list[dict[str, Any]]] = {}
        self.events: dict[str, asyncio.Queue[dict[str, Any]]] = {}
        self.url = ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        path = request.path.strip("/")
        if request.method != "GET":
            self.writes.append(f"{request.method} {path}")
            return web.json_response(await request.json())
        if path in ("api", "apis", "api/v1", "apis/mailrelay.dev/v1alpha1", "version"):
            return web.json_response(_DISCOVERY[path])
        plural = path.rpartition("/")[2]
        if request.query.get("watch"):
            return await self._watch(request, plural)
        if plural in (*OURS, "namespaces"):
            items = self.objects.get(plural, [])
            return web.json_response({"items": items, "metadata": {"resourceVersion": "1"}})
        return web.json_response({"message": f"{path} not found"}, status=404)

    async def _watch(self, request: web.Request, plural: str) -> web.StreamResponse:
        int(request.query["timeoutSeconds"])  # the real one answers 400 to anything else
        response = web.StreamResponse()
        await response.prepare(request)
        queue = self.events.setdefault(plural, asyncio.Queue())
        self.watched.add(plural)
        while True:
            event = await queue.get()
            await response.write(json.dumps(event).encode() + b"\n")


def _resource(kind: str, plural: str, *, namespaced: bool = True) -> dict[str, Any]:
    verbs = ["get", "list", "watch", "patch"]
    return {
        "name": plural,
        "singularName": "",
        "kind": kind,
        "namespaced": namespaced,
        "verbs": verbs,
    }


_GROUP = {"groupVersion": "mailrelay.dev/v1alpha1", "version": "v1alpha1"}
_DISCOVERY: dict[str, dict[str, Any]] = {
    "version": {"major": "1", "minor": "36"},
    "api": {"versions": ["v1"]},
    "apis": {
        "groups": [{"name": "mailrelay.dev", "versions": [_GROUP], "preferredVersion": _GROUP}]
    },
    "api/v1": {"resources": [_resource("Namespace", "namespaces", namespaced=False)]},
    "apis/mailrelay.dev/v1alpha1": {
        "resources": [
            _resource("MailRelay", "mailrelays"),
            _resource("MailSender", "mailsenders"),
            _resource("MailDomain", "maildomains"),
        ]
    },
}


@pytest.fixture
async def api() -> AsyncIterator[ApiServer]:
    made = ApiServer()
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", made.answer)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield made
    finally:
        await runner.cleanup()


def kubeconfig(folder: Path, server: str) -> Path:
    path = folder / "kubeconfig"
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "clusters": [{"name": "test", "cluster": {"server": server}}],
        "users": [{"name": "test", "user": {"token": "none"}}],
    }
    path.write_text(json.dumps(content))
    return path


async def start(environment: dict[str, str]) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "mailrelay_operator",
        env={"PATH": os.environ["PATH"], "LOGNAME": "test", **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


async def text_of(url: str) -> str:
    """The answer's text once there is one with status 200."""
    async with asyncio.timeout(DEADLINE), aiohttp.ClientSession() as session:
        while True:
            try:
                async with session.get(url) as response:
                    if response.status == 200:
                        return await response.text()
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.05)


async def until_watched(api: ApiServer, plurals: set[str]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not plurals <= api.watched:
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("namespaces", ["", "mail"])
async def test_it_watches_acts_on_an_event_answers_and_stops(
    api: ApiServer, tmp_path: Path, namespaces: str
) -> None:
    probe, metrics = free_port(), free_port()
    process = await start(
        {
            "KUBECONFIG": str(kubeconfig(tmp_path, api.url)),
            "MAILRELAY_GATEWAY_IMAGE": "gateway:test",
            "MAILRELAY_WATCH_NAMESPACES": namespaces,
            "MAILRELAY_PROBE_PORT": str(probe),
            "MAILRELAY_METRICS_PORT": str(metrics),
        }
    )
    try:
        await until_watched(api, {*OURS} if namespaces else {*OURS, "namespaces"})
        assert await text_of(f"http://127.0.0.1:{probe}/healthz") == '{"resync": "fresh"}'
        domain = {
            "apiVersion": "mailrelay.dev/v1alpha1",
            "kind": "MailDomain",
            "metadata": {
                "name": "example",
                "namespace": "mail",
                "uid": "1",
                "generation": 1,
                "resourceVersion": "2",
            },
            "spec": {"domain": "example.com", "relayRef": {"name": "out"}},
        }
        api.events["maildomains"].put_nowait({"type": "ADDED", "object": domain})
        wanted = 'mailrelay_reconcile_total{kind="MailDomain",result="ok"} 1.0'
        async with asyncio.timeout(DEADLINE):
            while wanted not in await text_of(f"http://127.0.0.1:{metrics}/metrics"):
                await asyncio.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(DEADLINE):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, output.decode()
    assert (
        api.writes == []
    )  # the object is gone when it is looked at, and kopf writes nothing itself
    lines = [json.loads(line) for line in output.splitlines()]
    assert lines[0]["event"] == "starting"
    assert [one for one in lines if one["level"] not in ("info", "debug")] == []
    if not namespaces:
        assert "namespaces" in api.watched
    else:
        assert "namespaces" not in api.watched


async def test_without_an_image_it_says_so_and_ends() -> None:
    process = await start({})
    async with asyncio.timeout(DEADLINE):
        output, _ = await process.communicate()
    assert process.returncode == 2
    assert output.decode().startswith("MAILRELAY_GATEWAY_IMAGE=''")
