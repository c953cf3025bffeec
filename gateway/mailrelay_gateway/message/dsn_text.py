"""A notice's words for people: what happened in the first two lines, then the replies. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from mailrelay_gateway.message.trace import format_date
from mailrelay_gateway.reasons import Reason
from mailrelay_gateway.smtp.reply import Reply

#: Recipients in the human-readable part; the machine-readable part has them all.
MAX_LISTED = 50
#: Reasons for which no server was asked: the reply is ours.
OUR_WORDS = frozenset(
    {Reason.ADDRESS_UNSENDABLE, Reason.SIGNATURE_WOULD_BREAK, Reason.CONVERSION_IMPOSSIBLE}
)

_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")


class Action(StrEnum):
    """What happened, in the word of RFC 3464 section 2.3.3; the label `kind` of dsn_total."""

    FAILED = "failed"
    DELAYED = "delayed"  # and is still retried
    RELAYED = "relayed"  # to a server that does not report deliveries


#: The first line about one recipient.
ONE = {
    Action.FAILED: "Your message to {address} could not be delivered.",
    Action.DELAYED: "Your message to {address} has not been delivered yet.",
    Action.RELAYED: "Your message to {address} was passed on to the next server{to}.",
}
#: And the first two about several.
MANY = {
    Action.FAILED: "Your message could not be delivered to {count} of its recipients.",
    Action.DELAYED: "Your message has not been delivered to {count} of its recipients yet.",
    Action.RELAYED: "Your message was passed on to the next server for {count} recipients.",
}
LISTED = {
    Action.FAILED: "The recipients and the replies of their servers:",
    Action.DELAYED: "The recipients and the last replies of their servers:",
    Action.RELAYED: "The recipients:",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class NoticeRecipient:
    """A recipient that the notice is about, and what its server said.

    `reply` is the last one about this recipient, from `host` ("host:port" or ""); `detail`
    describes the failure if there was none. `until` is when delivery is given up (Unix seconds), if
    it is still retried; `orcpt` is what the sender called the recipient (TYPE;XTEXT).
    """

    address: str
    reason: Reason
    reply: Reply | None = None
    host: str = ""
    detail: str = ""
    uncertain: bool = False  # it may have been delivered nevertheless
    until: float | None = None
    orcpt: str = ""


def for_people(
    action: Action,
    recipients: Sequence[NoticeRecipient],
    room: int,
    hostname: str,
    original_id: str,
    age: float,
) -> str:
    """The human-readable part, with a summary in the first two lines."""
    first = recipients[0]
    if len(recipients) == 1:
        host = host_name(first.host)
        lines = [ONE[action].format(address=on_one_line(first.address), to=f" {host}".rstrip())]
        lines += _why(action, first, room, age)
    else:
        lines = [MANY[action].format(count=len(recipients)), LISTED[action]]
        for recipient in recipients[:MAX_LISTED]:
            lines += ["", on_one_line(recipient.address)]
            lines += [f"  {line}" for line in _why(action, recipient, room, age)]
        if len(recipients) > MAX_LISTED:
            more = len(recipients) - MAX_LISTED
            lines += ["", f"... and {more} more, listed in the report below."]
    lines += [
        "",
        f"This is the mail gateway {hostname}. {_ending(action, recipients)}",
        f"The queue id of your message is {original_id}.",
        "",
    ]
    return "\n".join(lines)


def _ending(action: Action, recipients: Sequence[NoticeRecipient]) -> str:
    """What comes next."""
    if action is Action.FAILED:
        return "It will not retry the delivery."
    if action is Action.RELAYED:
        return "You get this because your message asked for it."
    ends = [each.until for each in recipients if each.until is not None]
    until = f" until {format_date(int(min(ends)))}" if ends else ""
    return f"It retries the delivery{until}: you need not send the message again."


def _why(action: Action, recipient: NoticeRecipient, room: int, age: float) -> list[str]:
    """The server's reply, and for how long delivery was retried if that is the reason."""
    if action is Action.RELAYED:
        return ["That server does not report deliveries: this is all that is known here."]
    host = host_name(recipient.host)
    if recipient.reply is None and not recipient.detail:
        said = recipient.reason.sentence
    elif not host or recipient.reason in OUR_WORDS:
        said = f"{recipient.reason.sentence} ({words_of(recipient, room)})"
    elif recipient.reply is not None:
        said = f"The server {host} answered: {words_of(recipient, room)}"
    else:
        said = f"The last error from the server {host}: {words_of(recipient, room)}"
    lines = [said]
    if recipient.reason is Reason.GAVE_UP or action is Action.DELAYED:
        has_been = "has been" if action is Action.DELAYED else "was"
        lines.append(f"Delivery {has_been} retried for {_duration(age)}.")
    if recipient.uncertain:
        lines.append("It may have been delivered nevertheless: a reply of the server was lost.")
    return lines


def _duration(seconds: float) -> str:
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        count = int(seconds // length)
        if count:
            return f"{count} {unit}{'s' if count > 1 else ''}"
    return "less than a minute"


def host_name(host: str) -> str:
    """The name of "name:port", an address as a literal (RFC 5321 section 4.1.3)."""
    name = (
        on_one_line(host)
        .encode("ascii", "backslashreplace")
        .decode()
        .rpartition(":")[0]
        .strip("[]")
    )
    if ":" in name:
        return f"[IPv6:{name}]"
    return f"[{name}]" if name.replace(".", "").isdigit() else name


def words_of(recipient: NoticeRecipient, room: int) -> str:
    """The reply, or the error, on one line."""
    words = on_one_line(str(recipient.reply) if recipient.reply is not None else recipient.detail)
    return words if len(words) <= room else f"{words[: room - 3]}..."


def on_one_line(text: str) -> str:
    """Foreign text as one line, so that control characters in a reply or an address cannot inject
    a field.
    """
    return _CONTROL.sub(" ", text)
