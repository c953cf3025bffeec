"""The checks of a submission, in order: lists of small functions `(facts) -> None | Problem`. Pure.

Each stage has its facts and its chain; the first problem ends it. Syntax is checked before
(smtp/commands.py), limits are charged after (limits.py), since a refused message costs nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

from mailrelay_gateway.message.headers import Header, read_mailboxes
from mailrelay_gateway.policy.senders import SenderEntry
from mailrelay_gateway.reasons import Reason
from mailrelay_gateway.smtp.address import is_address
from mailrelay_gateway.smtp.refusal import Problem, refuse

#: RFC 5321 section 6.3 wants at least 100 hops to pass (Postfix's hopcount_limit is 50, Exim's
#: received_headers_max 30).
MAX_RECEIVED = 100

F = TypeVar("F")
Check = Callable[[F], Problem | None]


# Facts are made once or twice a message, and a named tuple costs a third of a frozen dataclass.


class MailFacts(NamedTuple):
    """What is known at MAIL."""

    tls: bool
    tls_required: bool
    auth_required: bool
    client_allowed: bool
    logged_in: bool
    sender: (
        SenderEntry | None
    )  # the logged-in sender in the current configuration; None: revoked or no login
    reverse_path: str
    size: int  # as declared; 0: not declared
    max_size: int


class RcptFacts(NamedTuple):
    """What is known at RCPT."""

    routed: bool  # a route of the configuration matches
    accepted: int  # recipients of this transaction so far
    max_recipients: int
    defers_surplus: bool  # by `limits.message.onTooManyRecipients`


class ContentFacts(NamedTuple):
    """What is known when a message's header has been received."""

    header: Header
    sender: SenderEntry | None  # None: an anonymous listener, which does not restrict From
    utf8: bool = False  # whether the header may be UTF-8 (RFC 6532)


def decide(chain: Sequence[Check[F]], facts: F) -> Problem | None:
    """The first problem that a check of `chain` finds in `facts`; None when there is none."""
    for check in chain:
        problem = check(facts)
        if problem is not None:
            return problem
    return None


def check_tls(facts: MailFacts) -> Problem | None:
    """Refuse cleartext if the listener requires TLS (RFC 3207 section 4)."""
    if facts.tls or not facts.tls_required:
        return None
    return refuse(Reason.TLS_REQUIRED)


def check_client(facts: MailFacts) -> Problem | None:
    """Refuse clients outside `clientCIDRs`, which a reload may have changed since they
    connected.
    """
    if facts.client_allowed:
        return None
    return refuse(Reason.CLIENT_NOT_ALLOWED)


def check_login(facts: MailFacts) -> Problem | None:
    """Refuse clients that have not logged in (RFC 4954 section 6)."""
    if facts.logged_in or not facts.auth_required:
        return None
    return refuse(Reason.AUTH_REQUIRED)


def check_revoked(facts: MailFacts) -> Problem | None:
    """Refuse a revoked login. 421, since the session is closed: the client may log in
    again.
    """
    if facts.sender is not None or not facts.auth_required:
        return None
    return refuse(Reason.LOGIN_REVOKED)


def check_suspended(facts: MailFacts) -> Problem | None:
    """Refuse, for now, a MailSender with `suspend: true`."""
    if facts.sender is None or not facts.sender.suspended:
        return None
    return refuse(Reason.SENDER_SUSPENDED, sender=name_of(facts.sender))


def check_reverse_path(facts: MailFacts) -> Problem | None:
    """Refuse an envelope sender outside `from`. The null sender passes: the header From decides
    then.
    """
    if facts.sender is None or not facts.reverse_path:
        return None
    if facts.sender.addresses.matches(facts.reverse_path):
        return None
    return refuse(
        Reason.SENDER_NOT_ALLOWED, sender=name_of(facts.sender), address=facts.reverse_path
    )


def check_size(facts: MailFacts) -> Problem | None:
    """Refuse a message at once if SIZE= exceeds the limit (RFC 1870 section 6.1)."""
    if facts.size <= facts.max_size:
        return None
    return too_big(facts.max_size)


def check_recipients(facts: RcptFacts) -> Problem | None:
    """Refuse recipients above the limit: temporarily if the client sends the rest in another
    transaction (RFC 5321, 4.5.3.1.10), permanently if it would consider the message sent.
    """
    if facts.accepted < facts.max_recipients:
        return None
    variant = "defer" if facts.defers_surplus else ""
    return refuse(Reason.TOO_MANY_RECIPIENTS, variant, most=facts.max_recipients)


def check_route(facts: RcptFacts) -> Problem | None:
    """Refuse, for now, mail that no route matches: never by default some other way."""
    if facts.routed:
        return None
    return refuse(Reason.NO_ROUTE)


def too_many_recipients(surplus: int, max_recipients: int) -> Problem:
    """The refusal of a message of which `surplus` recipients were refused for their number."""
    return refuse(Reason.TOO_MANY_RECIPIENTS, "message", surplus=surplus, most=max_recipients)


def check_form(facts: ContentFacts) -> Problem | None:
    """Refuse a malformed header: readers would disagree about where it ends."""
    if not facts.header.fault:
        return None
    return refuse(Reason.MALFORMED_MESSAGE, fault=facts.header.fault)


def check_loop(facts: ContentFacts) -> Problem | None:
    """Refuse mail loops."""
    if facts.header.received <= MAX_RECEIVED:
        return None
    return refuse(Reason.MAIL_LOOP, hops=facts.header.received, most=MAX_RECEIVED)


def check_header_from(facts: ContentFacts) -> Problem | None:
    """Refuse unless there is exactly one unambiguous From, and the sender may send as each mailbox
    in it.
    """
    sender = facts.sender
    if sender is None:
        return None
    froms = facts.header.froms
    if len(froms) != 1:
        return refuse(Reason.HEADER_FROM_NOT_ALLOWED, "number", number=len(froms))
    mailboxes = read_mailboxes(froms[0], utf8=facts.utf8)
    if not mailboxes:
        return refuse(Reason.HEADER_FROM_NOT_ALLOWED, "unreadable", fault=_unreadable(froms[0]))
    for address in mailboxes:
        if not sender.addresses.matches(address):
            return refuse(Reason.HEADER_FROM_NOT_ALLOWED, sender=name_of(sender), address=address)
    return None


def claims_to_be_another(header: Header, sender: SenderEntry | None, *, utf8: bool = False) -> bool:
    """Whether a Sender field has an address that the sender may not send as: some mail clients show
    the message as sent by it on behalf of the author. The field is then removed.
    """
    if sender is None:
        return False
    for value in header.senders:
        for address in read_mailboxes(value, utf8=utf8) or ("",):
            if not sender.addresses.matches(address):
                return True
    return False


#: Checked at MAIL.
MAIL_CHAIN: tuple[Check[MailFacts], ...] = (
    check_tls,  # make sure nothing is sent in cleartext if the listener forbids it
    check_client,  # make sure only the networks of an anonymous listener can relay
    check_login,  # make sure the sender is known
    check_revoked,  # make sure a revoked login ends within one transaction
    check_suspended,  # make sure suspension also applies to open sessions
    check_size,  # make sure a too large message is not transferred first
    check_reverse_path,  # make sure the sender may use the envelope sender
)

#: Checked at RCPT.
RCPT_CHAIN: tuple[Check[RcptFacts], ...] = (
    check_recipients,  # make sure a message stays of bounded size in the spool
    check_route,  # make sure there is a way out
)

#: Checked when the header has been received.
CONTENT_CHAIN: tuple[Check[ContentFacts], ...] = (
    check_form,  # make sure that the checks below see the header as other readers do
    check_loop,  # make sure that two relays pointing at each other stop
    check_header_from,  # make sure that the sender may use the author's address
)


def name_of(sender: SenderEntry) -> str:
    """A sender's name in messages: `namespace/name`."""
    return f"{sender.identity.namespace}/{sender.identity.name}"


def too_big(max_size: int) -> Problem:
    """The refusal of a message with more octets than `max_size`."""
    return refuse(Reason.MESSAGE_TOO_BIG, octets=max_size)


#: Characters of a header From that a reply quotes.
SHOWN = 120
_ADDRESS_IN_BRACKETS = re.compile(r"([^<>]*)<[ \t]*([^<>@ \t]+@[^<>@ \t]+)[ \t]*>[ \t]*")


def _unreadable(value: bytes) -> str:
    """Why a From is ambiguous: its value, and how to write it."""
    text = value.decode("ascii", "replace").replace("\ufffd", "?")
    seen = "".join(each if each.isprintable() else "?" for each in text)
    if not seen:
        return "The header From is empty: write the author as Name <local@domain>"
    shown = seen if len(seen) <= SHOWN else f"{seen[:SHOWN]}..."
    match = _ADDRESS_IN_BRACKETS.fullmatch(seen)
    name = match[1].strip(' \t"') if match is not None else ""
    remedy = '"Name" <local@domain>, one address, the name in quotes'
    if match is not None and is_address(match[2]) and len(name) <= SHOWN and "\\" not in name:
        name = name.replace('"', "'")
        remedy = f'"{name}" <{match[2]}>' if name else f"<{match[2]}>"
    return f"The header From is ambiguous: {shown} -- write {remedy}"
