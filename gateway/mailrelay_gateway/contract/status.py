"""The contract's answer: what a gateway says of itself at GET /status."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from pydantic import Field

from mailrelay_gateway.contract.documents import SCHEMA, Part


class UpstreamState(StrEnum):
    """What we know of an upstream: nothing yet, that it takes mail, or that its mail is held."""

    UNKNOWN = "Unknown"
    UP = "Up"
    HELD = "Held"


class UpstreamStatus(Part):
    """One upstream in `/status`; `message` is the upstream's own reply where there was one."""

    name: str
    state: UpstreamState = UpstreamState.UNKNOWN
    reason: str = ""
    message: str = ""
    since: str = ""


class QueueStatus(Part):
    """What waits: messages in the queue, when the oldest was accepted (empty: none), and dead
    letters kept.
    """

    messages: int = 0
    oldest: str = ""
    dead_letters: int = 0


class GatewayStatus(Part):
    """The answer to GET /status (bearer token).

    `digest` names the configuration that runs and `files` each file of it, so that the operator
    sees who is known without waiting for a configuration that changes all the time; `problem` says
    why the newest one is not in force.
    """

    version: str
    digest: str = ""
    files: Mapping[str, str] = Field(default_factory=dict)
    schema_number: int = SCHEMA
    problem: str = ""
    hostname: str = ""
    started_at: str
    accepting: bool = True
    suspended: bool = False
    listeners: tuple[str, ...] = ()
    ports: Mapping[str, int] = Field(default_factory=dict)
    not_serving: tuple[str, ...] = ()
    upstreams: tuple[UpstreamStatus, ...] = ()
    queue: QueueStatus = QueueStatus()
