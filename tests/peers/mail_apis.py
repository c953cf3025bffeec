"""Providers' mail APIs of our own, over TLS: SES and STS, which check signature, keys and token as
AWS does, and Graph, which checks the bearer. Each keeps the messages that it took.
"""

from __future__ import annotations

import asyncio
import base64
import calendar
import hashlib
import json
import secrets
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

from aiohttp import web

from mailrelay_gateway.couriers.api.sigv4 import AwsKeys, signed_headers

REGION = "eu-central-1"
ROLE = "arn:aws:iam::111122223333:role/mail"
#: Octets of a request, as SES bounds them.
_MOST = 60 * 1024 * 1024


@dataclass
class Taken:
    """A message that was taken."""

    raw: bytes
    document: dict[str, Any]


@dataclass(eq=False)
class MailApi:
    """Begins and ends with `async with`. `fault` answers instead where it gives something; requests
    wait while `gate` is closed.
    """

    tls: ssl.SSLContext
    fault: Callable[[web.Request], web.Response | None] = lambda request: None
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    port: int = 0
    taken: list[Taken] = field(default_factory=list)
    requests: int = 0
    at_once: int = 0
    most_at_once: int = 0
    connections: set[Any] = field(default_factory=set)
    hang_up: bool = False  # once the message is there, without an answer
    _runner: web.AppRunner | None = None

    def routes(self) -> list[web.RouteDef]:
        """What it serves."""
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        """Listen."""
        self.gate.set()
        app = web.Application(client_max_size=_MOST)
        app.add_routes([*self.routes(), web.head("/", self._probe)])
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=self.tls).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Hang up."""
        self.gate.set()
        await self.stop()

    async def stop(self) -> None:
        """Stop listening; `async with` again begins anew at the same port."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    @property
    def url(self) -> str:
        """Where it is."""
        return f"https://127.0.0.1:{self.port}"

    async def _probe(self, request: web.Request) -> web.Response:
        return web.Response(status=404)

    async def _take(
        self, request: web.Request, take: Callable[[bytes], web.Response]
    ) -> web.Response:
        self.requests += 1
        self.connections.add(request.transport)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            body = await request.read()
            await self.gate.wait()
            answer = self.fault(request) or take(body)
            if self.hang_up:
                assert request.transport is not None
                request.transport.close()
            return answer
        finally:
            self.at_once -= 1


@dataclass(eq=False)
class Ses(MailApi):
    """SES v2 and STS. `keys` may send; `token` is what STS takes, and `life` how long, in seconds,
    the keys that it gives are good.
    """

    keys: dict[str, AwsKeys] = field(default_factory=dict)
    token: str = ""
    life: float = 3600.0
    sessions: list[str] = field(default_factory=list)
    sts_silent: bool = False  # STS takes requests, and never answers
    asked_sts: int = 0

    def routes(self) -> list[web.RouteDef]:
        """Both services at one address."""
        return [web.post("/v2/email/outbound-emails", self._send), web.post("/sts", self._assume)]

    async def _send(self, request: web.Request) -> web.Response:
        return await self._take(request, lambda body: self._sent(request, body))

    def _sent(self, request: web.Request, body: bytes) -> web.Response:
        given = request.headers.get("Authorization", "")
        key_id = given.partition("Credential=")[2].partition("/")[0]
        keys = self.keys.get(key_id)
        if keys is None:
            return _refusal(403, "UnrecognizedClientException", "The security token is invalid")
        expected = signed_headers(
            keys,
            host=request.host,
            path=request.path,
            content_type=request.headers["Content-Type"],
            body_sha256=hashlib.sha256(body).hexdigest(),
            region=REGION,
            service="ses",
            now=_unix(request.headers["X-Amz-Date"]),
        )
        if given != expected["authorization"]:
            return _refusal(403, "InvalidSignatureException", "The signature does not match")
        if request.headers.get("X-Amz-Security-Token", "") != keys.session_token:
            return _refusal(403, "InvalidClientTokenId", "The security token is invalid")
        document = json.loads(body)
        raw = base64.b64decode(document["Content"]["Raw"].pop("Data"), validate=True)
        self.taken.append(Taken(raw, document))
        return web.json_response({"MessageId": f"0100-{len(self.taken)}"})

    async def _assume(self, request: web.Request) -> web.Response:
        form = await request.post()
        self.asked_sts += 1
        if self.sts_silent:
            await asyncio.Event().wait()
        if form["WebIdentityToken"] != self.token or form["RoleArn"] != ROLE:
            words = f"token {form['WebIdentityToken']!s} is not valid"
            return web.Response(
                status=400,
                text="<ErrorResponse><Error><Type>Sender</Type><Code>InvalidIdentityToken</Code>"
                f"<Message>{words}</Message></Error></ErrorResponse>",
            )
        self.sessions.append(str(form["RoleSessionName"]))
        keys = AwsKeys(
            access_key_id=f"ASIA{len(self.sessions)}",
            secret_access_key=secrets.token_urlsafe(30),
            session_token=secrets.token_urlsafe(600) + "==",
        )
        self.keys[keys.access_key_id] = keys
        ends = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + self.life))
        return web.Response(
            content_type="text/xml",
            text="<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult>"
            f"<Credentials>\n  <AccessKeyId>{keys.access_key_id}</AccessKeyId>\n"
            f"  <SecretAccessKey>{keys.secret_access_key}</SecretAccessKey>\n"
            f"  <SessionToken>{keys.session_token}</SessionToken>\n"
            f"  <Expiration>{ends}</Expiration>\n</Credentials>"
            "</AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>",
        )


@dataclass(eq=False)
class Graph(MailApi):
    """sendMail. `good` says whether a bearer may send."""

    good: Callable[[str], bool] = lambda token: False
    mailbox: str = "robot@example.com"

    def routes(self) -> list[web.RouteDef]:
        """sendMail of any user."""
        return [web.post("/v1.0/users/{user}/sendMail", self._send)]

    async def _send(self, request: web.Request) -> web.Response:
        return await self._take(request, lambda body: self._sent(request, body))

    def _sent(self, request: web.Request, body: bytes) -> web.Response:
        if not self.good(request.headers.get("Authorization", "").removeprefix("Bearer ")):
            return _graph_refusal(401, "InvalidAuthenticationToken", "Access token has expired")
        if request.match_info["user"] != self.mailbox:
            return _graph_refusal(404, "ErrorInvalidUser", "The requested user is invalid")
        if request.content_type != "text/plain" or len(body) > 4 * 1024 * 1024:
            return _graph_refusal(413, "RequestEntityTooLarge", "too large")
        self.taken.append(Taken(base64.b64decode(body, validate=True), {}))
        return web.Response(status=202, headers={"request-id": f"id-{len(self.taken)}"})


def _refusal(status: int, code: str, words: str) -> web.Response:
    return web.json_response(
        {"message": words}, status=status, headers={"x-amzn-ErrorType": f"{code}:"}
    )


def _graph_refusal(status: int, code: str, words: str) -> web.Response:
    return web.json_response({"error": {"code": code, "message": words}}, status=status)


def _unix(moment: str) -> float:
    return float(calendar.timegm(time.strptime(moment, "%Y%m%dT%H%M%SZ")))
