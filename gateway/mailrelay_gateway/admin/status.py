"""`/status`, for the operator and for people."""

from __future__ import annotations

from aiohttp import web

from mailrelay_gateway.admin.endpoint import Endpoint, Sources


async def get_status(sources: Sources, _request: web.Request) -> web.Response:
    """The contract's answer."""
    return web.json_response(text=sources.health.status().model_dump_json(by_alias=True))


ENDPOINTS = (
    Endpoint(
        path="/status",
        answer=get_status,
        about="queue, listeners and upstreams; also: mailrelay status",
    ),
)
