"""The operator as a process, with kopf and all, against a small API server: it watches, answers
probes, and stops."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from tests.peers import vocabulary
from tests.ports import free_port
from tests.waiting import PATIENCE, until

OURS = ("mailrelays", "mailsenders", "maildomains", "pods", "statefulsets")


class ApiServer:
    """Discovery, empty lists, and watches that stay open; everything else is a write, and
    remembered. While `away` every call fails."""

    def __init__(self) -> None:
        self.watched: set[str] = set()
        self.lists: Counter[str] = Counter()
        self.writes: list[str] = []
        self.objects: dict[str, list[dict[str, Any]]] = {}
        self.events: dict[str, asyncio.Queue[dict[str, Any] | None]] = {}
        self.url = ""
        self.away = False

    async def answer(self, request: web.Request) -> web.StreamResponse:
        path = request.path.strip("/")
        if self.away:
            return web.json_response({"message": "etcd is away"}, status=503)
        if request.method != "GET":
            self.writes.append(f"{request.method} {path}")
            return web.json_response(await request.json())
        if path in _DISCOVERY:
            return web.json_response(_DISCOVERY[path])
        plural = path.rpartition("/")[2]
        if request.query.get("watch"):
            return await self._watch(request, plural)
        if plural in (*OURS, "namespaces"):
            self.lists[plural] += 1
            items = self.objects.get(plural, [])
            return web.json_response({"items": items, "metadata": {"resourceVersion": "1"}})
        return web.json_response({"message": f"{path} not found"}, status=404)

    async def _watch(self, request: web.Request, plural: str) -> web.StreamResponse:
        int(request.query["timeoutSeconds"])  # the real one answers 400 to anything else
        response = web.StreamResponse()
        await response.prepare(request)
        queue = self.events.setdefault(plural, asyncio.Queue())
        self.watched.add(plural)
        while (event := await queue.get()) is not None:
            await response.write(json.dumps(event).encode() + b"\n")
        return response

    def say(self, plural: str, event: dict[str, Any] | None) -> None:
        """Send an event to whoever watches; None ends the watch."""
        self.events[plural].put_nowait(event)


DOMAIN = {
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
    async with asyncio.timeout(PATIENCE), aiohttp.ClientSession() as session:
        while True:
            try:
                async with session.get(url) as response:
                    if response.status == 200:
                        return await response.text()
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.05)


async def until_watched(api: ApiServer, plurals: set[str]) -> None:
    await until(lambda: plurals <= api.watched)


@asynccontextmanager
async def operator(
    api: ApiServer, folder: Path, namespaces: str = ""
) -> AsyncIterator[tuple[asyncio.subprocess.Process, str, str]]:
    """The process and the URLs of its probe and metrics."""
    probe, metrics = free_port(), free_port()
    process = await start(
        {
            "KUBECONFIG": str(kubeconfig(folder, api.url)),
            "MAILRELAY_GATEWAY_IMAGE": "gateway:test",
            "MAILRELAY_WATCH_NAMESPACES": namespaces,
            "MAILRELAY_PROBE_PORT": str(probe),
            "MAILRELAY_METRICS_PORT": str(metrics),
        }
    )
    try:
        yield process, f"http://127.0.0.1:{probe}/healthz", f"http://127.0.0.1:{metrics}/metrics"
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def stop(process: asyncio.subprocess.Process) -> list[dict[str, Any]]:
    """The lines of its log, once it has ended of its own accord."""
    process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(PATIENCE):
        output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    lines = [json.loads(line) for line in output.splitlines()]
    assert [each for line in lines for each in vocabulary.problems(line)] == []
    return lines


STATUS = "PATCH apis/mailrelay.dev/v1alpha1/namespaces/mail/maildomains/example/status"
EVENT = "POST apis/events.k8s.io/v1/namespaces/mail/events"


@pytest.mark.parametrize("namespaces", ["", "mail"])
async def test_it_watches_acts_on_an_event_answers_and_stops(
    api: ApiServer, tmp_path: Path, namespaces: str
) -> None:
    async with operator(api, tmp_path, namespaces) as (process, probe, metrics):
        await until_watched(api, {*OURS} if namespaces else {*OURS, "namespaces"})
        assert await text_of(probe) == '{"loops": "alive"}'
        api.say("maildomains", {"type": "ADDED", "object": DOMAIN})
        await until(lambda: STATUS in api.writes)
        wanted = 'mailrelay_reconcile_total{kind="MailDomain",result="ok"} 1.0'

        async def is_counted() -> bool:
            return wanted in await text_of(metrics)

        await until(is_counted)
        await until(lambda: EVENT in api.writes)  # it is posted beside the rounds
        lines = await stop(process)
    # Its status and an Event are all that it writes; kopf writes nothing.
    assert set(api.writes) == {STATUS, EVENT}
    assert lines[0]["event"] == "starting"
    assert [one for one in lines if one["level"] not in ("info", "debug")] == []
    assert ("namespaces" in api.watched) is not bool(namespaces)
    # Each list was read once: a watch is no reason to list again.
    assert set(api.lists.values()) == {1}


async def test_an_api_server_that_goes_away_and_comes_back_is_waited_for(
    api: ApiServer, tmp_path: Path
) -> None:
    async with operator(api, tmp_path) as (process, probe, _):
        await until_watched(api, {*OURS, "namespaces"})
        lists = api.lists["maildomains"]
        api.away = True
        for plural in (*OURS, "namespaces"):
            api.say(plural, None)
        await asyncio.sleep(0)
        assert await text_of(probe) == '{"loops": "alive"}'
        api.objects["maildomains"] = [DOMAIN]
        api.watched.clear()
        api.away = False
        await until_watched(api, {*OURS, "namespaces"})
        # Where the watch was it goes on; what it says is acted upon.
        assert api.lists["maildomains"] == lists
        api.say("maildomains", {"type": "ADDED", "object": DOMAIN})
        await until(lambda: STATUS in api.writes)
        await stop(process)


@pytest.mark.parametrize("code", [410, 500])
async def test_an_error_in_a_watch_ends_nothing(api: ApiServer, tmp_path: Path, code: int) -> None:
    async with operator(api, tmp_path) as (process, probe, _):
        await until_watched(api, {*OURS, "namespaces"})
        api.watched.clear()
        api.objects["maildomains"] = [DOMAIN]
        error = {"kind": "Status", "code": code, "message": "something"}
        api.say("maildomains", {"type": "ERROR", "object": error})
        api.say("maildomains", None)  # the API server ends a watch after an error
        await until_watched(api, {"maildomains"})
        if code == 410:  # the list says it
            assert api.lists["maildomains"] == 2
        else:
            api.say("maildomains", {"type": "ADDED", "object": DOMAIN})
        await until(lambda: STATUS in api.writes)
        assert await text_of(probe) == '{"loops": "alive"}'
        await stop(process)


async def test_an_api_server_that_is_away_at_the_start_is_waited_for(
    api: ApiServer, tmp_path: Path
) -> None:
    api.away = True
    api.objects["maildomains"] = [DOMAIN]
    async with operator(api, tmp_path) as (process, probe, _):
        assert await text_of(probe) == '{"loops": "alive"}'
        assert api.writes == []
        api.away = False
        await until(lambda: STATUS in api.writes)
        await stop(process)


async def test_without_an_image_it_says_so_and_ends() -> None:
    process = await start({})
    async with asyncio.timeout(PATIENCE):
        output, _ = await process.communicate()
    assert process.returncode == 2
    assert output.decode().startswith("MAILRELAY_GATEWAY_IMAGE=''")
