"""`/livez` and `/readyz`, for the kubelet."""

from __future__ import annotations

from aiohttp import web

from mailrelay_gateway.admin.endpoint import Endpoint, Sources


async def get_livez(sources: Sources, _request: web.Request) -> web.Response:
    """Liveness probe."""
    return _probe(sources.health.alive())


async def get_readyz(sources: Sources, _request: web.Request) -> web.Response:
    """Readiness probe: whether the gateway accepts mail."""
    return _probe(sources.health.ready())


def _probe(problem: str) -> web.Response:
    return web.Response(text=f"{problem or 'ok'}\n", status=503 if problem else 200)


ENDPOINTS = (
    Endpoint(path="/livez", answer=get_livez, about="liveness probe", is_open=True),
    Endpoint(path="/readyz", answer=get_readyz, about="readiness probe", is_open=True),
)
