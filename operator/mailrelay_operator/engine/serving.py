"""Serves the operator's /metrics over HTTP, as one task for the life of the process."""

from __future__ import annotations

import asyncio

from aiohttp import web

from mailrelay_operator.engine.metrics import OperatorMetrics


async def serve_metrics(metrics: OperatorMetrics, *, port: int, host: str | None = None) -> None:
    """Answer GET /metrics until cancelled; without `host` on all addresses, IPv4 and IPv6."""

    async def render(_request: web.Request) -> web.Response:
        return web.Response(
            body=metrics.render(), headers={"Content-Type": "text/plain; version=0.0.4"}
        )

    application = web.Application()
    application.add_routes([web.get("/metrics", render)])
    runner = web.AppRunner(application, handle_signals=False, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()
