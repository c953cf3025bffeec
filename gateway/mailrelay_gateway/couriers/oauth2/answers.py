"""Parses the answer of a token endpoint: a token, or why there is none (RFC 6749 section 5). Pure.

Of an error only `error`, `error_codes` and the beginning of the description are shown, since an
endpoint may repeat the secrets it was sent.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any

from mailrelay_gateway.reasons import Reason

#: Characters shown of a description, and of `error` itself.
MAX_DESCRIPTION = 200
MAX_ERROR = 64
MAX_CODES = 4
#: Characters of a token. Microsoft's have 1.5 to 3 KiB, with many groups 6; AUTH lines end at 12288
#: octets of base64 (RFC 4954 section 4).
MAX_TOKEN = 8192
#: Seconds. The lifetime if the endpoint gives none, and the bounds on the one it gives.
USUAL_LIFE = 600.0
SHORTEST_LIFE = 3.0
LONGEST_LIFE = 86400.0
#: Maximum of Retry-After, in seconds.
LONGEST_WAIT = 3600.0

#: RFC 6750 section 2.1.
_BEARER = re.compile(r"[A-Za-z0-9._~+/-]+=*")
#: Errors of the endpoint itself rather than of the request.
_PASSING_ERRORS = frozenset({"temporarily_unavailable", "server_error", "slow_down"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """An access token, its lifetime in seconds, and the refresh token that replaces the posted one
    (empty: none).
    """

    access_token: str = field(repr=False)
    life: float
    refresh_token: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class NoToken:
    """Why there is no token. `refused`: the endpoint rejects the request; otherwise it fails or
    cannot be reached. `error` is its error code; `wait` is its Retry-After in seconds.
    """

    reason: Reason
    detail: str
    error: str = ""
    wait: float | None = None

    @property
    def refused(self) -> bool:
        """Whether a retry would fail the same way."""
        return self.reason is Reason.UPSTREAM_TOKEN_REFUSED


def read_answer(
    status: int, headers: Mapping[str, str], body: bytes, *, secrets: Iterable[str] = ()
) -> Grant | NoToken:
    """Parse the answer. Names of `headers` are in lower case; `secrets` are removed from
    messages.
    """
    document = json_object(body)
    if status == 200:
        return _grant(document)
    error = document.get("error")
    secrets = tuple(secrets)
    word = _printable(_hide(error, secrets), MAX_ERROR) if isinstance(error, str) else ""
    detail = _described(status, word, document, secrets)
    passing = status in (408, 425, 429) or status >= 500 or word in _PASSING_ERRORS
    if passing or not word:
        # Without an OAuth2 error the answer is not the endpoint's: a proxy, a portal, a redirect.
        return NoToken(
            reason=Reason.UPSTREAM_TOKEN_UNAVAILABLE,
            detail=detail,
            error=word,
            wait=_wait(headers.get("retry-after", "")),
        )
    return NoToken(reason=Reason.UPSTREAM_TOKEN_REFUSED, detail=detail, error=word)


def clock_skew(headers: Mapping[str, str], now: float) -> float:
    """By how many seconds the endpoint's clock is ahead of `now`; 0 without a Date header."""
    try:
        return parsedate_to_datetime(headers.get("date", "")).timestamp() - now
    except (ValueError, OverflowError, OSError):
        return 0.0


def json_object(body: bytes) -> Mapping[str, Any]:
    """The JSON object in an answer's body; an empty one if it is none."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _grant(document: Mapping[str, Any]) -> Grant | NoToken:
    token, kind = document.get("access_token"), document.get("token_type", "Bearer")
    problem = ""
    if not isinstance(token, str) or not token:
        problem = "answered 200 without an access_token"
    elif len(token) > MAX_TOKEN or _BEARER.fullmatch(token) is None:
        problem = f"gave an access_token that is no bearer token of at most {MAX_TOKEN} characters"
    elif not isinstance(kind, str) or kind.lower() != "bearer":
        problem = f"gave a token of the type {_printable(str(kind), MAX_ERROR)}, not Bearer"
    if problem:
        return NoToken(reason=Reason.UPSTREAM_TOKEN_UNAVAILABLE, detail=problem)
    refresh = document.get("refresh_token")
    usable = isinstance(refresh, str) and 0 < len(refresh) <= MAX_TOKEN and refresh.isascii()
    return Grant(
        access_token=str(token),
        life=_life(document.get("expires_in")),
        refresh_token=str(refresh) if usable else "",
    )


def _life(given: object) -> float:
    """The lifetime in seconds; Microsoft's older endpoint sends it as a string."""
    try:
        seconds = float(given) if isinstance(given, int | float | str) else USUAL_LIFE
    except ValueError:
        seconds = USUAL_LIFE
    if not seconds > 0:  # NaN too
        return SHORTEST_LIFE
    return max(SHORTEST_LIFE, min(seconds, LONGEST_LIFE))


def _described(status: int, word: str, document: Mapping[str, Any], secrets: Iterable[str]) -> str:
    if not word:
        return f"answered {status}, and nothing that a token endpoint says"
    codes = document.get("error_codes")
    listed = codes if isinstance(codes, list) else []
    numbers = [str(code) for code in listed if isinstance(code, int)]
    shown = f" ({', '.join(numbers[:MAX_CODES])})" if numbers else ""
    description = document.get("error_description")
    words = ""
    if isinstance(description, str):  # hidden before it is cut: a part of a secret is hard to find
        words = _printable(_hide(description, secrets), MAX_DESCRIPTION)
    return f"answered {status} {word}{shown}" + (f": {words}" if words else "")


def _printable(text: str, most: int) -> str:
    """One line without control characters."""
    line = " ".join(text.split())
    return "".join(one if one.isprintable() else "?" for one in line)[:most]


def _hide(text: str, secrets: Iterable[str]) -> str:
    for secret in secrets:
        text = text.replace(secret, "[...]")
        if len(secret) > 16:  # the endpoint may repeat only the beginning of a long one
            text = re.sub(re.escape(secret[:16]) + r"\S*", "[...]", text)
    return text


def _wait(retry_after: str) -> float | None:
    """Retry-After in seconds; a date is ignored."""
    if retry_after.isascii() and retry_after.isdigit() and len(retry_after) < 9:
        return min(float(retry_after), LONGEST_WAIT)
    return None
