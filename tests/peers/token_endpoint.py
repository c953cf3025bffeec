"""A token endpoint of our own (RFC 6749 over TLS) that checks what it is shown: client secrets,
refresh tokens, which it rotates, federated assertions, and Google's, by their signatures. It knows
the tokens that it gave, so that an SMTP server of a test can ask whether a bearer is good.
"""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from aiohttp import web
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    SECP256R1,
    EllipticCurvePublicKey,
    EllipticCurvePublicNumbers,
)
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import (
    RSAPrivateKey,
    RSAPublicKey,
    RSAPublicNumbers,
)
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

CLIENT_ID = "11111111-2222-3333-4444-555555555555"
CLIENT_SECRET = "a secret that~ends.in_punctuation"
SCOPE = "https://outlook.office365.com/.default"
#: How much the clocks of both sides may differ, in seconds.
LEEWAY = 300.0


#: Of RS256 and of ES256.
PublicKey = RSAPublicKey | EllipticCurvePublicKey


class Refused(Exception):
    """What the endpoint answers, with 400 or 401."""

    def __init__(self, error: str, description: str, code: int = 0, status: int = 400) -> None:
        super().__init__(error)
        self.error, self.description, self.code, self.status = error, description, code, status


@dataclass(eq=False)
class TokenEndpoint:
    """Begins and ends with `async with`. `life` is told of each token, in seconds; `fault` answers
    instead where it gives something. `skew`: how far its clock is ahead.
    """

    tls: ssl.SSLContext
    life: float = 3600.0
    skew: float = 0.0
    client_secret: str = CLIENT_SECRET
    refresh_tokens: set[str] = field(default_factory=set)
    rotates: bool = True
    #: Of federated assertions and of Google's: public keys by issuer; and what they must say.
    keys: dict[str, PublicKey] = field(default_factory=dict)
    subjects: dict[str, str] = field(default_factory=dict)
    audience: str = "api://AzureADTokenExchange"
    fault: Callable[[], web.Response | None] = lambda: None
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    host: str = "127.0.0.1"
    port: int = 0  # 0: a free one
    forms: list[Mapping[str, str]] = field(default_factory=list)
    tokens: dict[str, float] = field(default_factory=dict)  # until when each is good
    at_once: int = 0  # requests at the same time
    most_at_once: int = 0
    _runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        """Listen."""
        self.gate.set()
        app = web.Application()
        app.router.add_post("/token", self._token)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self.host, self.port, ssl_context=self.tls)
        await site.start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Hang up."""
        self.gate.set()
        assert self._runner is not None
        await self._runner.cleanup()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"https://127.0.0.1:{self.port}/token"

    def good(self, token: str) -> bool:
        """Whether a bearer is one of ours, and still good."""
        return self.tokens.get(token, 0.0) > time.monotonic()

    def revoke(self) -> None:
        """No token that was given is good any more."""
        self.tokens = dict.fromkeys(self.tokens, 0.0)

    @property
    def now(self) -> float:
        """Unix seconds by its clock."""
        return time.time() + self.skew

    async def _token(self, request: web.Request) -> web.StreamResponse:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            self.forms.append({k: str(v) for k, v in (await request.post()).items()})
            await self.gate.wait()
            answer = self.fault() or self._answer(self.forms[-1])
        finally:
            self.at_once -= 1
        answer.headers["Date"] = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(self.now))
        return answer

    def _answer(self, form: Mapping[str, str]) -> web.Response:
        try:
            more = self._check(form)
        except Refused as refused:
            said = {
                "error": refused.error,
                "error_description": refused.description,
                "error_codes": [refused.code],
                "trace_id": "not to be shown",
            }
            return web.json_response(said, status=refused.status)
        token = secrets.token_urlsafe(900)  # as long as Microsoft's
        self.tokens[token] = time.monotonic() + self.life
        given = {"token_type": "Bearer", "expires_in": self.life, "access_token": token}
        return web.json_response(given | more)

    def _check(self, form: Mapping[str, str]) -> dict[str, Any]:
        grant = form.get("grant_type")
        if grant == "urn:ietf:params:oauth:grant-type:jwt-bearer":
            claims = self._verified(form["assertion"])
            self._expect(claims, audience=self.url)
            return {}
        if form.get("client_id") != CLIENT_ID:
            raise Refused("unauthorized_client", "AADSTS700016: Application not found", 700016)
        if "client_assertion" in form:
            assert form["client_assertion_type"].endswith("client-assertion-type:jwt-bearer")
            self._expect(self._verified(form["client_assertion"]), audience=self.audience)
        elif grant == "client_credentials" and form.get("client_secret") != self.client_secret:
            given = form.get("client_secret", "")
            raise Refused(
                "invalid_client",
                f"AADSTS7000215: Invalid client secret provided: {given}. Ensure it is the value.",
                7000215,
                401,
            )
        if grant == "refresh_token":
            return self._refresh(form["refresh_token"])
        assert grant == "client_credentials", grant
        assert form["scope"] == SCOPE
        return {}

    def _refresh(self, token: str) -> dict[str, Any]:
        if token not in self.refresh_tokens:
            raise Refused("invalid_grant", "AADSTS70008: The refresh token has expired", 70008)
        if not self.rotates:
            return {}
        self.refresh_tokens.remove(token)
        fresh = secrets.token_urlsafe(200)
        self.refresh_tokens.add(fresh)
        return {"refresh_token": fresh}

    def _verified(self, token: str) -> Mapping[str, Any]:
        head, body, signature = token.split(".")
        claims: Mapping[str, Any] = json.loads(_decoded(body))
        key = self.keys.get(claims.get("iss", ""))
        if key is None:
            raise Refused("invalid_client", f"no issuer {claims.get('iss')} is known", 700211, 401)
        try:
            verify(key, json.loads(_decoded(head))["alg"], f"{head}.{body}", _decoded(signature))
        except InvalidSignature:
            raise Refused("invalid_client", "the signature is wrong", 700027, 401) from None
        return claims

    def _expect(self, claims: Mapping[str, Any], *, audience: str) -> None:
        audiences = claims["aud"] if isinstance(claims["aud"], list) else [claims["aud"]]
        if audiences != [audience] or claims["sub"] != self.subjects[claims["iss"]]:
            raise Refused("invalid_client", f"{claims['sub']} for {audiences}", 700213, 401)
        if not claims["iat"] - LEEWAY <= self.now <= claims["exp"] + LEEWAY:
            raise Refused("invalid_grant", "Token must be in a reasonable timeframe")


def verify(key: PublicKey, algorithm: str, signed: str, signature: bytes) -> None:
    """InvalidSignature, if it is (RFC 7518 sections 3.3 and 3.4)."""
    if isinstance(key, EllipticCurvePublicKey):
        assert algorithm == "ES256"
        r, s = (int.from_bytes(half, "big") for half in (signature[:32], signature[32:]))
        key.verify(encode_dss_signature(r, s), signed.encode(), ECDSA(SHA256()))
    else:
        assert algorithm == "RS256"
        key.verify(signature, signed.encode(), PKCS1v15(), SHA256())


def public_key(jwk: Mapping[str, str]) -> PublicKey:
    """A key as an issuer publishes it (RFC 7517)."""
    numbers = {name: int.from_bytes(_decoded(jwk[name]), "big") for name in "nexy" if name in jwk}
    if jwk["kty"] == "EC":
        assert jwk["crv"] == "P-256"
        return EllipticCurvePublicNumbers(numbers["x"], numbers["y"], SECP256R1()).public_key()
    return RSAPublicNumbers(e=numbers["e"], n=numbers["n"]).public_key()


def assertion(key: RSAPrivateKey, **claims: object) -> str:
    """A signed token such as a cluster gives to a pod."""
    head = _encoded(json.dumps({"alg": "RS256", "kid": "1"}).encode())
    body = _encoded(json.dumps(claims).encode())
    signature = key.sign(f"{head}.{body}".encode(), PKCS1v15(), SHA256())
    return f"{head}.{body}.{_encoded(signature)}"


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _encoded(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()
