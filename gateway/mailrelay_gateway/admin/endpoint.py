"""What an endpoint of the admin port is, and what it may ask of the gateway's other sources."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import orjson
from aiohttp import web

from mailrelay_gateway.contract.status import GatewayStatus
from mailrelay_gateway.metrics import Metrics


class Health(Protocol):
    """What the process says of itself."""

    def alive(self) -> str:
        """ "" if the process can still do its work, otherwise why not."""

    def ready(self) -> str:
        """ "" if mail may be sent here, otherwise why not."""

    def status(self) -> GatewayStatus:
        """The whole picture."""

    def token_sha256(self) -> str:
        """The hash of the bearer token, hex; "" if nobody has one."""


class CapturedMail(Protocol):
    """What the sandbox lets people see."""

    def newest(self, limit: int) -> Awaitable[list[dict[str, Any]]]:
        """The newest messages, without bodies."""

    def one(self, number: int) -> Awaitable[dict[str, Any] | None]:
        """One message."""

    def raw(self, number: int) -> Awaitable[bytes | None]:
        """One message's octets."""

    def clear(self) -> Awaitable[int]:
        """Forget all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """What endpoints answer from."""

    health: Health
    mail: CapturedMail
    metrics: Metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One method of one path. `about` is its line on the page that a browser sees, "" for none;
    `is_open`: it is answered without the relay's token.
    """

    path: str  # as aiohttp's router wants it
    answer: Callable[[Sources, web.Request], Awaitable[web.Response]]
    about: str
    is_open: bool = False
    method: Literal["GET", "DELETE"] = "GET"


def as_json(value: object, status: int = 200) -> web.Response:
    """An answer in JSON."""
    return web.Response(body=orjson.dumps(value), status=status, content_type="application/json")
