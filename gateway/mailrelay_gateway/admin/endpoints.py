"""Every endpoint of the admin port. To add one, write a module in this package and list it here."""

from __future__ import annotations

import re

from aiohttp import web

from mailrelay_gateway.admin import metrics, probes, sandbox, status
from mailrelay_gateway.admin.endpoint import Endpoint, Sources

ENDPOINTS: tuple[Endpoint, ...] = (
    *metrics.ENDPOINTS,
    *probes.ENDPOINTS,
    *status.ENDPOINTS,
    *sandbox.ENDPOINTS,
)


async def get_index(_sources: Sources, _request: web.Request) -> web.Response:
    """The index page, for browsers."""
    return web.Response(text=index())


def index() -> str:
    """The list of endpoints, with those that require the token listed separately."""
    return "\n".join(
        [
            "mailrelay gateway, admin port",
            "",
            *_lines(is_open=True),
            "",
            "With the relay's token (Authorization: Bearer TOKEN):",
            "",
            *_lines(is_open=False),
            "",
        ]
    )


def _lines(*, is_open: bool) -> list[str]:
    return [
        f"{re.sub('{(.*?)(:.*?)?}', _shown, endpoint.path):<26} {endpoint.about}"
        for endpoint in ENDPOINTS
        if endpoint.is_open is is_open and endpoint.about
    ]


def _shown(variable: re.Match[str]) -> str:
    return variable[1].upper()
