"""The DSN parameters of MAIL and RCPT (RFC 3461): as values, as text, and their meaning. Pure.

Values are kept as the client wrote them (xtext), so that they are passed on unchanged.
"""

from __future__ import annotations

import json
import re

from mailrelay_gateway.message_value import message_value

#: RFC 3461 section 4.4, 4.2: characters that an ENVID and an ORCPT encode.
MAX_ENVID = 100
MAX_ORCPT = 500

#: RFC 3461 section 4: xtext = *( xchar / hexchar )
_XTEXT = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})*")
_HEXCHAR = re.compile(r"\+([0-9A-F]{2})")
_TYPE = re.compile(r"[A-Za-z0-9-]{1,64}")
_EVENTS = frozenset({"SUCCESS", "FAILURE", "DELAY"})


@message_value(frozen=True, slots=True)
class RecipientDsn:
    """Of one recipient: NOTIFY (upper case; "" when it was not given) and ORCPT (TYPE;XTEXT)."""

    notify: str = ""
    orcpt: str = ""


@message_value(frozen=True, slots=True)
class DsnParameters:
    """Of a message: RET (FULL, HDRS or ""), ENVID, and those of its recipients, by index."""

    ret: str = ""
    envid: str = ""
    recipients: tuple[RecipientDsn, ...] = ()

    def of(self, index: int) -> RecipientDsn:
        """Those of one recipient."""
        return self.recipients[index] if index < len(self.recipients) else NONE


NONE = RecipientDsn()


def wants(dsn: DsnParameters | None, index: int, event: str) -> bool:
    """Whether the sender is to be told of `event` (SUCCESS, FAILURE or DELAY) at a recipient. The
    default is failures and delays (RFC 3461 section 4.1).
    """
    notify = "" if dsn is None else dsn.of(index).notify
    return event in notify.split(",") if notify else event != "SUCCESS"


def read_notify(value: str) -> str | None:
    """The value of NOTIFY, in upper case; None: invalid."""
    notify = value.upper()
    words = notify.split(",")
    if notify != "NEVER" and (not _EVENTS.issuperset(words) or len(set(words)) != len(words)):
        return None
    return notify


def is_envid(value: str) -> bool:
    """Whether a value may be an ENVID."""
    return _XTEXT.fullmatch(value) is not None and 0 < len(decode_xtext(value)) <= MAX_ENVID


def is_orcpt(value: str) -> bool:
    """Whether a value may be an ORCPT: an address type, and the address as xtext."""
    kind, semicolon, address = value.partition(";")
    return (
        bool(semicolon)
        and _TYPE.fullmatch(kind) is not None
        and _XTEXT.fullmatch(address) is not None
        and 0 < len(decode_xtext(address)) <= MAX_ORCPT
    )


def decode_xtext(value: str) -> str:
    """The text that an xtext encodes."""
    return _HEXCHAR.sub(lambda found: chr(int(found[1], 16)), value)


def mail_arguments(dsn: DsnParameters) -> str:
    """RET and ENVID, to follow MAIL's other parameters, each preceded by a blank."""
    ret = f" RET={dsn.ret}" if dsn.ret else ""
    return f"{ret} ENVID={dsn.envid}" if dsn.envid else ret


def rcpt_arguments(recipient: RecipientDsn) -> str:
    """NOTIFY and ORCPT, to follow RCPT's path."""
    notify = f" NOTIFY={recipient.notify}" if recipient.notify else ""
    return f"{notify} ORCPT={recipient.orcpt}" if recipient.orcpt else notify


def to_json(dsn: DsnParameters) -> str:
    """The stored form."""
    recipients = [[each.notify, each.orcpt] for each in dsn.recipients]
    return json.dumps([dsn.ret, dsn.envid, recipients], separators=(",", ":"))


def from_json(text: str) -> DsnParameters:
    """The opposite."""
    ret, envid, recipients = json.loads(text)
    return DsnParameters(ret, envid, tuple([RecipientDsn(*each) for each in recipients]))
