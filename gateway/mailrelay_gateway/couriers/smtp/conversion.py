"""A message for a server that lacks an extension: re-encoded, or refused with an explanation.

`convert` reads the body: call it in a thread.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from mailrelay_gateway.couriers.smtp.body_stream import CHUNK, UnreadableBody
from mailrelay_gateway.message.body import StoredBody
from mailrelay_gateway.message.effect import Elsewhere
from mailrelay_gateway.message.envelope import AttemptRecipient, Message, Outcome, Result
from mailrelay_gateway.message.mime.seven_bit import (
    Needs,
    SignatureWouldBreak,
    Survey,
    Unconvertible,
    seven_bit,
    survey,
)
from mailrelay_gateway.reasons import Reason
from mailrelay_gateway.smtp.client.commands import Capabilities
from mailrelay_gateway.smtp.idn import a_labels
from mailrelay_gateway.smtp.reply import Reply


def needs_conversion(message: Message, offered: Capabilities) -> bool:
    """Whether the server cannot accept the message as it is (RFC 6152 section 3; RFC 6531; RFC 5321
    section 4.5.3.1.6).
    """
    if message.eight_bit and not (offered.eight_bit and (offered.smtputf8 or not message.smtputf8)):
        return True
    return message.long_lines


def convert(message: Message, offered: Capabilities) -> Message:
    """The message in a form that the server accepts. Blocks. Unconvertible, UnreadableBody: there
    is none.
    """
    eight_bit = message.eight_bit and offered.eight_bit
    smtputf8 = message.smtputf8 and offered.smtputf8
    needs = Needs(bodies=not eight_bit, headers=not smtputf8, legal=message.smtputf8)
    try:
        found = survey(_octets(message, message.body), needs)
        if found.keep:
            return message
        body: bytes | ConvertedBody
        if isinstance(message.body, bytes):
            body = b"".join(seven_bit(_octets(message, message.body), found, a_labels))
            size = len(body)
        else:
            body = ConvertedBody(message, message.body, found)
            size = body.size
        return replace(
            message,
            prelude=b"",
            body=body,
            size=size,
            eight_bit=eight_bit,
            smtputf8=smtputf8,
            long_lines=False,
        )
    except OSError as error:
        raise UnreadableBody(str(error)) from None


def refused(
    error: Unconvertible, recipients: Iterable[AttemptRecipient], host: str
) -> list[Outcome]:
    """The outcomes of a message that cannot be sent to this server: another upstream may accept
    it.
    """
    broken = isinstance(error, SignatureWouldBreak)
    reason = Reason.SIGNATURE_WOULD_BREAK if broken else Reason.CONVERSION_IMPOSSIBLE
    # RFC 3463 section 3.7, X.6.3: conversion required but not supported
    reply = Reply(554, "5.6.3", f"it has to be re-encoded for this upstream, and {error}")
    return [
        Outcome(each.index, Result.DEFERRED, reason, reply, host, Elsewhere())
        for each in recipients
    ]


class ConvertedBody:
    """A stored body that is converted while it is read (a StoredBody)."""

    __slots__ = ("_message", "_original", "_survey", "size")

    def __init__(self, message: Message, original: StoredBody, found: Survey) -> None:
        """Read it once for its size. Blocks; raises OSError."""
        self._message = message
        self._original = original
        self._survey = found
        self.size = sum(map(len, self.chunks(CHUNK)))

    def __repr__(self) -> str:
        """The original body."""
        return f"ConvertedBody({self._original!r})"

    def chunks(self, octets: int) -> Iterator[bytes]:
        """See StoredBody; pieces grow by what encoding adds, to three times `octets` at most."""
        del octets  # the pieces in which it was surveyed
        for piece in seven_bit(_octets(self._message, self._original), self._survey, a_labels):
            if piece:
                yield piece


def _octets(message: Message, body: bytes | StoredBody) -> Iterator[bytes]:
    """The message's octets in pieces."""
    read = 0
    if message.prelude:
        yield message.prelude
    if isinstance(body, bytes):
        yield body
        return
    for piece in body.chunks(CHUNK):
        read += len(piece)
        yield piece
    expected = message.size - len(message.prelude)
    if read != expected:  # must never be mistaken for the complete message
        raise OSError(f"{body!r}: {read} octets, and the message has {expected}")
