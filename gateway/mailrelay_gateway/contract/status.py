"""The contract's status: a gateway's answer to GET /status. Pure.

Here the gateway is the writer. As in `documents`: strict when written, tolerant when read
(`GatewayStatus.read`); an unknown state is read as Unknown.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from pydantic import ValidationInfo, model_validator

from mailrelay_gateway.contract.documents import READING, Part


class UpstreamState(StrEnum):
    """The state of an upstream: unknown yet, accepting mail, or held."""

    UNKNOWN = "Unknown"
    UP = "Up"
    HELD = "Held"

    @classmethod
    def _missing_(cls, value: object) -> UpstreamState:
        return cls.UNKNOWN


class SenderFault(Part):
    """What is refused about a MailSender's domain or address, and not about a recipient: the
    sender's UID, and when the refusals began.
    """

    uid: str
    reason: str
    message: str
    since: str


class UpstreamStatus(Part):
    """One upstream in `/status`; `message` is the upstream's reply, if any, `since` when the state
    began (empty: unknown). `senders` are those whose domain or address was refused lately.
    """

    name: str
    state: UpstreamState
    reason: str
    message: str
    since: str
    senders: tuple[SenderFault, ...]

    @model_validator(mode="before")
    @classmethod
    def _is_of_an_older_writer(cls, given: Any, info: ValidationInfo) -> Any:
        """An older gateway did not tell of senders."""
        if info.context == READING and isinstance(given, dict):
            return {"senders": []} | given
        return given


class QueueStatus(Part):
    """The queue: number of messages, when the oldest was accepted (empty: none), number of dead
    letters, and number of recipients that wait because no route matches them or no upstream of
    their route is configured.
    """

    messages: int
    oldest: str
    dead_letters: int
    unrouted: int

    @model_validator(mode="before")
    @classmethod
    def _is_of_an_older_writer(cls, given: Any, info: ValidationInfo) -> Any:
        """An older gateway had no routes."""
        if info.context == READING and isinstance(given, dict):
            return {"unrouted": 0} | given
        return given


class GatewayStatus(Part):
    """The answer to GET /status (bearer token).

    `digest` identifies the running configuration and `files` each of its files, so that the
    operator sees which senders are known while other files change; `problem` says why the newest
    configuration is not in effect.
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
