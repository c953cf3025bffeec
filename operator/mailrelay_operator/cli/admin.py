"""A client of a gateway's admin port: status and captured mail.

Plain HTTP on the loopback interface, one request per connection, each with a deadline.
"""

from __future__ import annotations

import http.client
import json
import socket
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from mailrelay_gateway.contract.status import GatewayStatus

#: Seconds; the gateway answers from memory.
DEADLINE = 5.0
#: Seconds for one poll while the gateway starts.
RUNS_DEADLINE = 1.0
#: Bounds the answer of a server that is not a gateway; captured mail is listed in pages.
MAX_ANSWER = 64 * 1024 * 1024


class AdminUnreachable(Exception):
    """The admin port did not answer as a gateway does; the text is a sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Admin:
    """The address of the admin port, and its bearer token."""

    host: str
    port: int
    token: str = ""

    @property
    def url(self) -> str:
        """`http://HOST:PORT`."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    def runs(self, digest: str) -> bool:
        """Whether it accepts mail with this configuration. The request has the token, so that
        another relay's gateway on the same port is not mistaken for this one."""
        try:
            answer = self.status(deadline=RUNS_DEADLINE)
        except AdminUnreachable:
            return False
        return answer.accepting and answer.digest == digest

    def status(self, *, deadline: float = DEADLINE) -> GatewayStatus:
        """GET /status, within `deadline` seconds."""
        try:
            return GatewayStatus.read(self._get_json("/status", deadline))
        except ValidationError:
            raise AdminUnreachable(f"{self.url} is not a mailrelay gateway.") from None

    def captured(self, limit: int = 100) -> list[dict[str, Any]]:
        """The messages in the sandbox, newest first; empty without a sandbox."""
        answer = self._get_json(f"/sandbox/messages?limit={limit}")
        listed = answer.get("messages", []) if isinstance(answer, dict) else answer
        return [message for message in listed if isinstance(message, dict)]

    def captured_one(self, number: int) -> dict[str, Any]:
        """One captured message with its header and text."""
        answer = self._get_json(f"/sandbox/messages/{number}")
        if not isinstance(answer, dict):
            raise AdminUnreachable(f"{self.url} is not a mailrelay gateway.")
        return answer

    def captured_raw(self, number: int) -> bytes:
        """One captured message, octet for octet."""
        return self._get_body(f"/sandbox/messages/{number}/raw", DEADLINE)

    def _get_json(self, path: str, deadline: float = DEADLINE) -> Any:
        try:
            return json.loads(self._get_body(path, deadline))
        except ValueError:
            raise AdminUnreachable(f"{self.url}{path} did not answer with JSON.") from None

    def _get_body(self, path: str, deadline: float) -> bytes:
        status, body = self._get(path, deadline)
        if status == 401:
            raise AdminUnreachable(
                f"{self.url} does not accept the token: it may belong to another relay."
            )
        if status == 404 and path.startswith("/sandbox/messages/"):
            raise AdminUnreachable(f"No captured message has the id {path.split('/')[3]}.")
        if status != 200:
            raise AdminUnreachable(f"{self.url}{path} answered {status}.")
        return body

    def _get(self, path: str, deadline: float) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=deadline)
        try:
            headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read(MAX_ANSWER)
        except (OSError, http.client.HTTPException) as error:
            raise AdminUnreachable(
                f"{self.url} does not answer ({error}); is `mailrelay up` running?"
            ) from None
        finally:
            connection.close()


def parse_host_port(text: str) -> tuple[str, int]:
    """`127.0.0.1:8025` or `[::1]:8025` as host and port; raises ValueError with the syntax."""
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or not host or not port.isdecimal() or not 1 <= int(port) <= 65535:
        raise ValueError(f"{text!r} is not HOST:PORT, such as 127.0.0.1:8025")
    if ":" in host and not bracketed:
        raise ValueError(f"{text!r} is not HOST:PORT; an IPv6 address needs brackets: [::1]:8025")
    return host.removeprefix("[").removesuffix("]"), int(port)


def parse_host(text: str) -> str:
    """An address without port and brackets; raises ValueError with the syntax."""
    host = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    before, colon, port = host.rpartition(":")
    if (colon and port.isdecimal() and ":" not in before) or "]:" in text:
        raise ValueError(f"{text!r} has a port; listeners have theirs in `spec.listeners`")
    if not host or host.isdecimal():
        raise ValueError(f"{text!r} is not an address, such as 127.0.0.1, [::1] or 0.0.0.0")
    return host


def resolve_here(host: str) -> str:
    """The address of `host` if it is this machine's; raises ValueError otherwise."""
    try:
        found = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        words = getattr(error, "strerror", None) or str(error)
        raise ValueError(f"{host} is not an address of this machine ({words})") from None
    family, _, _, _, address = found[0]
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind(address)  # port 0: any free port
    except OSError as error:
        raise ValueError(f"{host} is not an address of this machine ({error.strerror})") from None
    return str(address[0])
