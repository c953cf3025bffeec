"""The contract's answer: what a gateway says of itself at GET /status. Pure.

Here the gateway is the writer. The rule is that of `documents`: strict when written, tolerant when
read (`GatewayStatus.read`); a state that the reader does not know is Unknown.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from mailrelay_gateway.contract.documents import Part


class UpstreamState(StrEnum):
    """What we know of an upstream: nothing yet, that it takes mail, or that its mail is held."""

    UNKNOWN = "Unknown"
    UP = "Up"
    HELD = "Held"

    @classmethod
    def _missing_(cls, value: object) -> UpstreamState:
        return cls.UNKNOWN


class UpstreamStatus(Part):
    """One upstream in `/status`; `message` is the upstream's own reply where there was one, `since`
    when the state began (empty: not known).
    """

    name: str
    state: UpstreamState
    reason: str
    message: str
    since: str


class QueueStatus(Part):
    """What waits: messages in the queue, when the oldest was accepted (empty: none), and dead
    letters kept.
    """

    messages: int
    oldest: str
    dead_letters: int


class GatewayStatus(Part):
    """The answer to GET /status (bearer token).

    `digest` names the configuration that runs and `files` each file of it, so that the operator
    sees who is known without waiting for a configuration that changes all the time; `problem` says
    why the newest one is not in force.
    """

    version: str
    digest: str
    files: Mapping[str, str]
    schema_number: int
    problem: str
    hostname: str
    started_at: str
    accepting: bool
    suspended: bool
    listeners: tuple[str, ...]
    ports: Mapping[str, int]
    not_serving: tuple[str, ...]
    upstreams: tuple[UpstreamStatus, ...]
    queue: QueueStatus
