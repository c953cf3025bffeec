"""`/status`, for the operator and users."""

from __future__ import annotations

from aiohttp import web

from mailrelay_gateway.admin.endpoint import Endpoint, Sources


async def get_status(sources: Sources, _request: web.Request) -> web.Response:
    """The status as defined in the contract."""
    return web.json_response(text=sources.health.status().model_dump_json(by_alias=True))


ENDPOINTS = (
    Endpoint(
        path="/status",
        answer=get_status,
        about="queue, listeners and upstreams; also: mailrelay status",
    ),
)
