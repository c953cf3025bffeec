"""The client's side of AUTH (RFC 4954): PLAIN or LOGIN with a password, XOAUTH2 or OAUTHBEARER with
an access token. What is sent when, and when the login has succeeded or failed. Pure.

A login by token is never replaced by one with a password, or vice versa: only the configured one is
used.
"""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Callable
from dataclasses import dataclass, field

from mailrelay_gateway.smtp.client.commands import (
    auth_line,
    auth_plain_command,
    auth_plain_line,
    bearer_command,
)
from mailrelay_gateway.smtp.client.states import State
from mailrelay_gateway.smtp.reply import Reply

#: "Unknown command", "not implemented" and the like: about AUTH itself, not about our login.
NOT_IMPLEMENTED = frozenset({500, 501, 502, 503, 504})
#: Characters that are shown of a server's status in its error challenge.
MAX_STATUS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Bearer:
    """A login by access token: the mechanism, its client response, and the response to the error
    challenge, which is not a final reply (RFC 7628 section 3.2.3), all in base64.
    """

    mechanism: str
    response: str = field(repr=False)
    dismissal: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Say:
    """Send this, and go to that state."""

    state: State
    octets: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class LoggedIn:
    """The login has succeeded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginRefused:
    """It has failed; `detail` adds to the reply, or is empty."""

    reply: Reply
    detail: str = ""


Step = Say | LoggedIn | LoginRefused


class Login:
    """One login in one session."""

    __slots__ = ("_bearer", "_early", "_offered", "_password", "_plain_refused", "_told", "_user")

    def __init__(
        self, username: str, password: str, bearer: Bearer | None, offered: frozenset[str]
    ) -> None:
        """With these credentials, at a server that offers these mechanisms; nothing is sent yet."""
        self._user = username
        self._password = password
        self._bearer = bearer
        self._offered = offered
        self._plain_refused: Reply | None = None
        self._early = False  # the response was sent with the command
        self._told = ""  # by the error challenge

    def begin(self) -> Say | str:
        """The first line; or why there is none, as a sentence."""
        bearer = self._bearer
        if bearer is not None and bearer.mechanism in self._offered:
            octets = bearer_command(bearer.mechanism, bearer.response)
            self._early = octets is not None
            bare = f"AUTH {bearer.mechanism}\r\n".encode()
            return Say(state=State.AUTH_BEARER, octets=bare if octets is None else octets)
        if bearer is None and "PLAIN" in self._offered:
            octets = auth_plain_command(self._user, self._password)
            return Say(state=State.AUTH_PLAIN, octets=octets)
        if bearer is None and "LOGIN" in self._offered:
            return _AUTH_LOGIN
        names = " ".join(sorted(self._offered)) or "nothing"
        ours = "PLAIN and LOGIN" if bearer is None else f"{bearer.mechanism} here"
        return f"it offers AUTH {names}; the gateway supports {ours}"

    def answered(self, state: State, reply: Reply) -> Step:
        """What follows from a reply in one of the states of AUTH."""
        return _STEPS[state](self, reply)

    # --- with a password

    def _on_plain(self, reply: Reply) -> Step:
        """Success, failure, or a server that ignored the initial response and asks for it (which
        RFC 4954 section 4 allows).
        """
        if reply.code // 100 == 3:
            octets = auth_plain_line(self._user, self._password)
            return Say(state=State.AUTH_PLAIN_ASKED, octets=octets)
        if reply.permanent and "LOGIN" in self._offered:
            # Some servers offer what they do not support, or check PLAIN against another list of
            # users.
            self._plain_refused = reply
            return _AUTH_LOGIN
        return self._on_last(reply)

    def _on_login(self, reply: Reply) -> Step:
        if reply.code >= 400:
            return self._refused(reply)
        return Say(state=State.AUTH_USERNAME, octets=auth_line(self._user))

    def _on_username(self, reply: Reply) -> Step:
        if reply.code >= 400:
            return self._refused(reply)
        return Say(state=State.AUTH_PASSWORD, octets=auth_line(self._password))

    def _on_last(self, reply: Reply) -> Step:
        return self._refused(reply) if reply.code >= 400 else _LOGGED_IN

    def _refused(self, reply: Reply) -> LoginRefused:
        """The login has failed with every mechanism. Of two refusals the one about the login is
        reported; both are in the detail.
        """
        first, detail = self._plain_refused, ""
        if first is not None:
            detail = f"answered {first} to AUTH PLAIN, and {reply} to AUTH LOGIN"
            if reply.permanent and reply.code in NOT_IMPLEMENTED:
                reply = first
        return LoginRefused(reply=reply, detail=detail)

    # --- with a token

    def _on_bearer(self, reply: Reply) -> Step:
        """Success, failure, asked for the response, or told what is wrong with it."""
        bearer = self._bearer
        assert bearer is not None
        if reply.code // 100 != 3:
            return self._on_bearer_last(reply)
        if self._early and reply.text.strip():
            return self._dismissed(reply)
        octets = f"{bearer.response}\r\n".encode()
        return Say(state=State.AUTH_BEARER_SHOWN, octets=octets)

    def _on_shown(self, reply: Reply) -> Step:
        return self._dismissed(reply) if reply.code // 100 == 3 else self._on_bearer_last(reply)

    def _dismissed(self, challenge: Reply) -> Say:
        """The error challenge: the server says what is wrong, and waits for our response to
        refuse.
        """
        assert self._bearer is not None
        self._told = challenge_status(challenge.text)
        octets = f"{self._bearer.dismissal}\r\n".encode()
        return Say(state=State.AUTH_BEARER_DISMISSED, octets=octets)

    def _on_bearer_last(self, reply: Reply) -> Step:
        if reply.code < 400:
            return _LOGGED_IN
        assert self._bearer is not None
        told = f" (status {self._told})" if self._told else ""
        detail = f"answered {reply} to AUTH {self._bearer.mechanism}{told}"
        return LoginRefused(reply=reply, detail=detail)


def challenge_status(text: str) -> str:
    """The status in an error challenge (base64 of JSON); empty if it cannot be read."""
    try:
        found = json.loads(b64decode(text.strip(), validate=True))
        status = str(found["status"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""
    return "".join(one for one in status if one.isprintable())[:MAX_STATUS]


_LOGGED_IN = LoggedIn()
# Without initial response: servers differ in whether LOGIN takes one, all take this.
_AUTH_LOGIN = Say(state=State.AUTH_LOGIN, octets=b"AUTH LOGIN\r\n")

#: What follows in each state.
_STEPS: dict[State, Callable[[Login, Reply], Step]] = {
    State.AUTH_PLAIN: Login._on_plain,
    State.AUTH_PLAIN_ASKED: Login._on_plain,
    State.AUTH_LOGIN: Login._on_login,
    State.AUTH_USERNAME: Login._on_username,
    State.AUTH_PASSWORD: Login._on_last,
    State.AUTH_BEARER: Login._on_bearer,
    State.AUTH_BEARER_SHOWN: Login._on_shown,
    State.AUTH_BEARER_DISMISSED: Login._on_bearer_last,
}
