"""What a relay changes about messages: whom they reach, and what they say of where they come from.
Pure.

Shapes only; the changes are made by the gateway.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mailrelay_operator.api.grammar import Address, HeaderName, HeaderValue, MailboxPattern
from mailrelay_operator.api.quantities import Duration
from mailrelay_operator.api.shape import ATOMIC, DISTINCT, Struct


class Recipients(Struct):
    """Whom mail may reach, so that a staging system writes to no customer. Deny is looked at
    first.
    """

    allow: tuple[MailboxPattern, ...] = Field(
        (),
        max_length=256,
        description="Recipients that get their mail. Left out: all that are not denied, unless"
        " redirectTo is set.",
        json_schema_extra=DISTINCT,
    )
    deny: tuple[MailboxPattern, ...] = Field(
        (),
        max_length=256,
        description="Recipients that never get mail.",
        json_schema_extra=DISTINCT,
    )
    redirect_to: Address | None = Field(
        None,
        description="Gets the mail of everybody else, the original recipient kept in a"
        " header. Left out: such mail is refused.",
    )


class HeaderFrom(Struct):
    """A fixed header From."""

    value: Address = Field(description="The address that mail says to be from.")
    original_to: Literal["Reply-To", "X-Original-From"] | None = Field(
        None,
        description="Header that keeps the original address, unless the message has one."
        " Left out: none.",
    )


class AddedHeader(Struct):
    """A header to add."""

    name: HeaderName = Field(description="Name of the header.")
    value: HeaderValue = Field(description="Value of the header, one line of printable ASCII.")


class Headers(Struct):
    """Headers to add and to remove; removed first."""

    add: tuple[AddedHeader, ...] = Field(
        (), max_length=32, description="Headers to add at the top.", json_schema_extra=ATOMIC
    )
    remove: tuple[HeaderName, ...] = Field(
        (),
        max_length=32,
        description="Headers to remove, whatever their case.",
        json_schema_extra=DISTINCT,
    )


class Rewrite(Struct):
    """What is changed in every message before it leaves, and before it is signed."""

    envelope_from: Address | None = Field(
        None,
        description="Envelope sender of all mail: bounces go there. For providers that take"
        " one mailbox only.",
    )
    null_sender: Address | None = Field(
        None,
        description="Envelope sender instead of the null sender <>, for providers that"
        " refuse it, as SES does.",
    )
    header_from: HeaderFrom | None = Field(None, description="Header From of all mail.")
    header_sender: Address | None = Field(None, description="Header Sender of all mail.")
    headers: Headers = Field(Headers(), description="Headers to add and remove.")


class Suppression(Struct):
    """Recipients that are refused, so that a provider does not count our bounces."""

    addresses: tuple[MailboxPattern, ...] = Field(
        (),
        max_length=1000,
        description="Recipients that are always refused.",
        json_schema_extra=DISTINCT,
    )
    hard_bounces: Duration | None = Field(
        None,
        description="How long a recipient is refused that failed for good. Left out: not at all.",
    )
