"""Each check of the chains says no for its own reason only; the order says which comes first."""

from __future__ import annotations

import pytest

from mailrelay_gateway.message.headers import Header
from mailrelay_gateway.policy.chain import (
    CONTENT_CHAIN,
    MAIL_CHAIN,
    MAX_RECEIVED,
    RCPT_CHAIN,
    ContentFacts,
    MailFacts,
    RcptFacts,
    decide,
)
from mailrelay_gateway.policy.senders import SenderEntry, compile_directory
from mailrelay_gateway.reasons import Reason
from tests.models import made


def entry(*, suspend: bool = False) -> SenderEntry:
    sender = made.sender(
        uid="1",
        namespace="shop",
        name="billing",
        username="shop.billing",
        addresses=("billing@example.com",),
        suspend=suspend,
    )
    return compile_directory([sender]).by_uid["1"]


FINE = MailFacts(
    tls=True,
    tls_required=True,
    auth_required=True,
    client_allowed=True,
    logged_in=True,
    sender=entry(),
    reverse_path="billing@example.com",
    size=0,
    max_size=1000,
)
OPEN = FINE._replace(
    tls=False,
    tls_required=False,
    auth_required=False,
    logged_in=False,
    sender=None,
    reverse_path="anyone@anywhere.example",
)


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (FINE, None),
        (FINE._replace(reverse_path=""), None),
        (FINE._replace(size=1000), None),
        (OPEN, None),
        (FINE._replace(tls=False), (530, "TlsRequired")),
        (FINE._replace(logged_in=False, sender=None), (530, "AuthRequired")),
        (FINE._replace(sender=None), (421, "LoginRevoked")),
        (FINE._replace(sender=entry(suspend=True)), (450, "SenderSuspended")),
        (FINE._replace(reverse_path="ceo@example.com"), (550, "SenderNotAllowed")),
        (FINE._replace(size=1001), (552, "MessageTooBig")),
        (OPEN._replace(client_allowed=False), (550, "ClientNotAllowed")),
        (FINE._replace(tls=False, logged_in=False, sender=None), (530, "TlsRequired")),
    ],
)
def test_mail(facts: MailFacts, expected: tuple[int, str] | None) -> None:
    problem = decide(MAIL_CHAIN, facts)
    assert (problem and (problem.reply.code, problem.reason)) == expected


@pytest.mark.parametrize("chain", [MAIL_CHAIN, RCPT_CHAIN, CONTENT_CHAIN])
def test_every_check_explains_itself(chain: tuple[object, ...]) -> None:
    for check in chain:
        assert (check.__doc__ or "").startswith("Refuse")


RCPT = RcptFacts(
    routed=True,
    accepted=2,
    max_recipients=3,
    defers_surplus=False,
)


def test_mail_that_no_route_matches_waits_with_the_client() -> None:
    problem = decide(RCPT_CHAIN, RCPT._replace(routed=False))
    assert problem is not None and problem.reason is Reason.NO_ROUTE
    assert str(problem.reply) == (
        "451 4.4.4 No route of the MailRelay matches this mail: try again later (NoRoute)"
    )


def test_recipients() -> None:
    for defers, said in ((True, "452 4.5.3 "), (False, "550 5.5.3 ")):
        facts = RCPT._replace(defers_surplus=defers)
        assert decide(RCPT_CHAIN, facts) is None
        problem = decide(RCPT_CHAIN, facts._replace(accepted=3))
        assert problem is not None and str(problem.reply).startswith(said)


def header(*froms: str, received: int = 0, fault: str = "") -> Header:
    return Header(tuple(each.encode() for each in froms), "", False, received, fault)


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (header("Billing <billing@example.com>"), None),
        (header("BILLING@example.com", received=MAX_RECEIVED), None),
        (header("billing@example.com", received=100), None),  # RFC 5321 section 6.3
        (header("billing@example.com", received=MAX_RECEIVED + 1), "MailLoop"),
        (header("billing@example.com", fault="Line 1 is broken"), "MalformedMessage"),
        (header(), "HeaderFromNotAllowed"),
        (header("billing@example.com", "billing@example.com"), "HeaderFromNotAllowed"),
        (header(""), "HeaderFromNotAllowed"),
        (header("nobody"), "HeaderFromNotAllowed"),
        (header("ceo@example.com"), "HeaderFromNotAllowed"),
        (header("billing@example.com, ceo@example.com"), "HeaderFromNotAllowed"),
        (header("ceo@example.com <billing@example.com>"), "HeaderFromNotAllowed"),
    ],
)
def test_content(seen: Header, expected: str | None) -> None:
    problem = decide(CONTENT_CHAIN, ContentFacts(header=seen, sender=entry()))
    assert (problem and problem.reason) == expected


def test_an_anonymous_message_may_be_from_anyone() -> None:
    for seen in (header(), header("ceo@example.com"), header("a@b.example", "c@d.example")):
        assert decide(CONTENT_CHAIN, ContentFacts(header=seen, sender=None)) is None
