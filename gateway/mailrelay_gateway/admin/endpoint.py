"""The types of the admin port's endpoints, and of the sources that they answer from."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import orjson
from aiohttp import web

from mailrelay_gateway.contract.status import GatewayStatus
from mailrelay_gateway.metrics import Metrics


class Health(Protocol):
    """The state of the process."""

    def alive(self) -> str:
        """ "" if the process works, otherwise why not."""

    def ready(self) -> str:
        """ "" if the gateway accepts mail, otherwise why not."""

    def status(self) -> GatewayStatus:
        """The answer to GET /status."""

    def token_sha256(self) -> str:
        """The SHA-256 of the bearer token in hex; "" if there is none."""


class CapturedMail(Protocol):
    """The sandbox's captured mail."""

    def newest(self, limit: int) -> Awaitable[list[dict[str, Any]]]:
        """The newest messages, without bodies."""

    def one(self, number: int) -> Awaitable[dict[str, Any] | None]:
        """One message."""

    def raw(self, number: int) -> Awaitable[bytes | None]:
        """One message's octets."""

    def clear(self) -> Awaitable[int]:
        """Delete all messages; returns their number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """The sources of the endpoints' answers."""

    health: Health
    mail: CapturedMail
    metrics: Metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One method of one path. `about` is its line on the index page, "" for none; `is_open`: it
    does not require the relay's token.
    """

    path: str  # in the syntax of aiohttp's router
    answer: Callable[[Sources, web.Request], Awaitable[web.Response]]
    about: str
    is_open: bool = False
    method: Literal["GET", "DELETE"] = "GET"


def as_json(value: object, status: int = 200) -> web.Response:
    """An answer in JSON."""
    return web.Response(body=orjson.dumps(value), status=status, content_type="application/json")
