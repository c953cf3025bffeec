"""What a connection needs to know. Only the value."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass

from mailrelay_gateway.couriers.replies.rules import RuleBook
from mailrelay_gateway.couriers.smtp.deadlines import Deadlines
from mailrelay_gateway.message.attribution import Attributor
from mailrelay_gateway.message.lane import LaneKey
from mailrelay_gateway.smtp.client.client import ClientSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Naming:
    """Our names: in EHLO, and instead of the null sender ("": none)."""

    hostname: str
    null_sender: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionSettings:
    """`host` is "host:port" for people, `server_name` the name to verify."""

    lane: LaneKey
    host: str
    client: ClientSettings
    tls_context: ssl.SSLContext | None
    server_name: str
    deadlines: Deadlines
    rules: RuleBook  # by which its replies are classified
    attributor: Attributor | None  # None: it is not told whose mail it gets
    messages: int  # after so many it leaves
    null_sender: str = ""  # is said in place of the null sender
    #: Whether its login is over, so that it leaves before its next message; None: it lasts.
    login_over: Callable[[], bool] | None = None
