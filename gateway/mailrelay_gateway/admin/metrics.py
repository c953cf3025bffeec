"""`/metrics`, for Prometheus."""

from __future__ import annotations

import asyncio

from aiohttp import web

from mailrelay_gateway.admin.endpoint import Endpoint, Sources

#: Prometheus' text format; OpenMetrics is not offered.
TEXT_FORMAT = "text/plain; version=0.0.4; charset=utf-8"


async def get_metrics(sources: Sources, _request: web.Request) -> web.Response:
    """All series, rendered in a thread, since it takes milliseconds."""
    loop = asyncio.get_running_loop()
    text = await loop.run_in_executor(None, sources.metrics.render)
    return web.Response(body=text, headers={"Content-Type": TEXT_FORMAT})


ENDPOINTS = (
    Endpoint(path="/metrics", answer=get_metrics, about="metrics for Prometheus", is_open=True),
)
