"""`/sandbox/messages`: captured mail."""

from __future__ import annotations

from aiohttp import web

from mailrelay_gateway.admin.endpoint import Endpoint, Sources, as_json

#: Captured messages in one list.
MAX_LISTED = 1000


async def get_messages(sources: Sources, request: web.Request) -> web.Response:
    """The newest ones, at most `limit`."""
    limit = request.query.get("limit", "100")
    if not limit.isdecimal() or not 1 <= int(limit) <= MAX_LISTED:
        return as_json({"error": f"limit: {limit!r} is not a number from 1 to {MAX_LISTED}"}, 400)
    return as_json({"messages": await sources.mail.newest(int(limit))})


async def delete_messages(sources: Sources, _request: web.Request) -> web.Response:
    """Delete all messages."""
    return as_json({"deleted": await sources.mail.clear()})


async def get_message(sources: Sources, request: web.Request) -> web.Response:
    """One message."""
    message = await sources.mail.one(_number(request))
    return as_json(message) if message is not None else _not_captured(request)


async def get_raw(sources: Sources, request: web.Request) -> web.Response:
    """One message's octets."""
    raw = await sources.mail.raw(_number(request))
    if raw is None:
        return _not_captured(request)
    headers = {"Content-Type": "message/rfc822", "X-Content-Type-Options": "nosniff"}
    return web.Response(body=raw, headers=headers)


def _number(request: web.Request) -> int:
    return int(request.match_info["id"][:18])


def _not_captured(request: web.Request) -> web.Response:
    return as_json({"error": f"no captured message has the id {request.match_info['id']}"}, 404)


ENDPOINTS = (
    Endpoint(
        path="/sandbox/messages",
        answer=get_messages,
        about="captured mail; also: mailrelay inbox list",
    ),
    Endpoint(path="/sandbox/messages", answer=delete_messages, about="", method="DELETE"),
    Endpoint(
        path=r"/sandbox/messages/{id:\d+}",
        answer=get_message,
        about="one message; also: mailrelay inbox show ID",
    ),
    Endpoint(
        path=r"/sandbox/messages/{id:\d+}/raw",
        answer=get_raw,
        about="the raw message",
    ),
)
