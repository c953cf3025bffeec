"""What a relay changes in messages: recipients and headers. Pure.

Shapes only; the gateway makes the changes.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mailrelay_operator.api.grammar import Address, HeaderName, HeaderValue, MailboxPattern
from mailrelay_operator.api.quantities import Duration
from mailrelay_operator.api.shape import ATOMIC, DISTINCT, Struct


class Recipients(Struct):
    """Which recipients mail may be sent to, so that a staging system cannot reach customers. Deny
    takes precedence.
    """

    allow: tuple[MailboxPattern, ...] = Field(
        (),
        max_length=256,
        description="Recipients that mail is delivered to. Default: all that are not denied, unless"
        " redirectTo is set.",
        json_schema_extra=DISTINCT,
    )
    deny: tuple[MailboxPattern, ...] = Field(
        (),
        max_length=256,
        description="Recipients that mail is never delivered to.",
        json_schema_extra=DISTINCT,
    )
    redirect_to: Address | None = Field(
        None,
        description="Receives the mail for all other recipients; a header keeps the original"
        " recipient. If unset, such mail is refused.",
    )


class HeaderFrom(Struct):
    """A fixed header From."""

    value: Address = Field(description="The address in header From.")
    original_to: Literal["Reply-To", "X-Original-From"] | None = Field(
        None,
        description="Header that keeps the original address, unless the message already has it."
        " Default: none.",
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
        description="Headers to remove; case-insensitive.",
        json_schema_extra=DISTINCT,
    )


class Rewrite(Struct):
    """Changes to every message before it is signed and sent."""

    envelope_from: Address | None = Field(
        None,
        description="Envelope sender of all mail: bounces go there. For providers that accept"
        " a single mailbox only.",
    )
    null_sender: Address | None = Field(
        None,
        description="Envelope sender that replaces the null sender <>, for providers that"
        " refuse it, such as SES.",
    )
    header_from: HeaderFrom | None = Field(None, description="Header From of all mail.")
    header_sender: Address | None = Field(None, description="Header Sender of all mail.")
    headers: Headers = Field(Headers(), description="Headers to add and remove.")


class Suppression(Struct):
    """Recipients that are refused, to protect the bounce rate at the provider."""

    addresses: tuple[MailboxPattern, ...] = Field(
        (),
        max_length=1000,
        description="Recipients that are always refused.",
        json_schema_extra=DISTINCT,
    )
    hard_bounces: Duration | None = Field(
        None,
        description="How long a recipient is refused after a permanent failure. Default: never.",
    )
