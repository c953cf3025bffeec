"""Every rule, by replies as servers give them: what is said of us holds the upstream, what is said
of a recipient or a message fails it, and each row is reached.
"""

from __future__ import annotations

import pytest

from mailrelay_gateway.contract.stage import Stage
from mailrelay_gateway.couriers.replies.classify import classify_reply
from mailrelay_gateway.couriers.replies.reply_rules import RULES, SESSION
from mailrelay_gateway.message.effect import Cap, Effect, PauseUntil, Reconnect, Slow, Split
from mailrelay_gateway.message.envelope import Result
from mailrelay_gateway.reasons import Reason
from mailrelay_gateway.smtp.client.replies import ReplyReader
from mailrelay_gateway.smtp.reply import Reply

M, R, D, F = Stage.MAIL, Stage.RCPT, Stage.DATA, Stage.END_OF_MESSAGE


def reply(text: str) -> Reply:
    """The text as it comes from the wire."""
    [found] = ReplyReader().receive(text.encode() + b"\r\n")
    return found


LOGIN = [
    (M, "530 5.7.0 Authentication required"),
    (R, "530 5.7.1 Authentication required"),
    (D, "530 Authentication required"),
    (F, "530 5.7.0 Authentication required"),
    (M, "534 5.7.9 mechanism too weak"),
    (M, "535 5.7.8 credentials invalid"),
    (M, "538 5.7.11 encryption required for requested authentication mechanism"),
    (R, "535 5.7.1 odd"),
    (M, "550 5.7.57 Client not authenticated to send mail."),
    (M, "550 5.7.30 Basic authentication is not supported for Client Submission"),
    (F, "550 5.7.30 Basic authentication is not supported for Client Submission"),
    (R, "550 Authentication required"),
    (R, "550 5.7.1 Authentication is required for relay"),
    (M, "550 Client was not authenticated"),
    (M, "503 5.5.1 AUTH first"),
    (M, "503 5.5.4 Error: send AUTH command first"),
    (R, "550 Please turn on SMTP Authentication in your mail client"),
    (R, "553 5.7.1 <s@x.example>: Sender address rejected: not logged in"),
    (M, "550 5.7.1 You must authenticate first"),
    (R, "550 5.7.1 This server requires authentication"),
]
TLS = [
    (M, "530 5.7.0 Must issue a STARTTLS command first"),
    (M, "530 Must issue STARTTLS"),
    (R, "550 5.7.10 Encryption needed"),
    (M, "523 5.7.10 encryption needed"),
    (M, "523 encryption needed"),
    (M, "550 please use STARTTLS"),
]
REFUSED = [
    (R, "554 5.7.1 <u@x.example>: Relay access denied"),
    (R, "454 4.7.1 <u@x.example>: Relay access denied"),
    (R, "550 5.7.1 Relaying denied"),
    (R, "550 relay not permitted"),
    (R, "550 5.7.1 Unable to relay for u@x.example"),
    (R, "550 5.7.54 SMTP; Unable to relay recipient in non-accepted domain"),
    (M, "550 5.7.64 TenantAttribution; Relay Access Denied [x.example]"),
    (M, "550 5.7.64 TenantAttribution"),
    (R, "553 We do not relay non-local mail, sorry."),
    (R, "553 sorry, that domain isn't in my list of allowed rcpthosts (#5.7.1)"),
    (R, "550-host is not permitted to relay through this server\r\n550 without authentication."),
    (R, "554 5.7.1 Client host rejected: Access denied"),
    (R, "554 5.7.1 <unknown[192.0.2.1]>: Client host rejected: Access denied"),
    (R, "450 4.7.1 Client host rejected: cannot find your reverse hostname, [192.0.2.1]"),
    (R, "554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using bl.example.org"),
    (M, "554 5.7.1 You are not allowed to connect."),
    (R, "504 5.5.2 <localhost>: Helo command rejected: need fully-qualified hostname"),
    (R, "450 4.7.1 <x>: Helo command rejected: Host not found"),
    (M, "550 5.7.1 bad EHLO name"),
    (D, "554 Your IP address 192.0.2.1 is on our block list"),
    (F, "554 5.7.1 Your IP [192.0.2.1] has been blocked by our provider"),
    (M, "550 your host is not allowed to send"),
    (R, "550 This system is not configured to relay mail"),
    (F, "554 5.7.1 Client host [192.0.2.1] blocked using zen.spamhaus.org"),
    (F, "554 5.7.1 <x@y.example>: Relay access denied"),
    (R, "553 Connections will not be accepted from 192.0.2.1"),
    (R, "550 #5.7.1 Your access to submit messages to this e-mail system has been rejected."),
    (R, "550 Fix reverse DNS for 192.0.2.1"),
    (R, "550 no PTR record found"),
    (R, "550 We do not accept mail from dynamic IPs"),
    (R, "550 access denied. IP name lookup failed"),
    (R, "550 5.7.606 Access denied, banned sending IP [192.0.2.1]"),
    (R, "550 5.7.1 Your IP address is listed by https://spamhaus.example/zen, correct this"),
    (R, "554 Refused. Your IP address is listed in the RBL at rbl.example"),
    (R, "550 Email blocked by SPAMHAUS"),
    (R, "550 5.7.1 Rejected: 192.0.2.1 listed at zen.spamhaus.org."),
    (R, "554 your MTA's poor reputation"),
    (R, "550 5.7.1 Mail from 192.0.2.1 rejected using bl.example"),
    (R, "554 IP=192.0.2.1 - A problem occurred."),
    (R, "450 4.7.1 part of your network is on our block list (S3150)"),
    (M, "521 5.7.1 we take no mail"),
    (M, "521 host does not accept mail"),
    (R, "521 host does not accept mail"),
    (M, "504 5.5.4 what"),
    (F, "500 5.5.1 Command unrecognized"),
    (F, "502 5.5.2 command not implemented"),
    (F, "550 5.3.0 mail system trouble"),
    (F, "554 5.3.5 system is not configured"),
    (M, "550 5.3.2 system does not accept network messages"),
]
ACCOUNT = [
    (M, "550 5.7.13 user account disabled"),
    (M, "421 Domain d.example is not allowed to send: Please activate your Mailgun account."),
    (F, "550 5.4.6 Unusual sending activity detected"),
    (F, "550 5.1.8 Access denied, bad outbound sender AS(42004)"),
    (
        F,
        "554 5.2.2 mailbox full; STOREDRV.Submission.Exception:QuotaExceededException; Failed",
    ),
    (M, "550 Your account has been suspended"),
    (R, "550 Your account has been suspended"),
    (F, "550 Account not subscribed to SES"),
    (F, "554 Message rejected: Sending paused for this account."),
]
QUOTA = [
    (F, "454 Throttling failure: Daily message quota exceeded."),
    (F, "550 5.4.5 Daily user sending quota exceeded"),
    (F, "550 5.4.5 Daily user sending limit exceeded. For more information see the help."),
    (M, "550 5.7.1 Daily SMTP relay limit exceeded for customer. Contact your admin."),
    (F, "550 monthly limit reached"),
    (F, "554 5.2.0 STOREDRV.Submission.Exception:SubmissionQuotaExceededException; Failed"),
    (F, "451 You've exceeded your messaging limits"),
    (R, "550 Domain x.example has exceeded the max emails per hour (151/150 (100%)) allowed."),
    (M, "451 Maximum credits exceeded"),
    (F, "550 insufficient credits"),
]
RECIPIENT = [
    (R, "550 5.1.1 nobody"),
    (R, "550 5.2.1 The email account that you tried to reach is disabled"),
    (R, "552 5.2.2 mailbox full"),
    (R, "550 5.4.1 Recipient address rejected: Access denied"),
    (
        R,
        "550 5.1.1 <x@y.example>: Recipient address rejected: User unknown in relay"
        " recipient table",
    ),
    (R, "550 No such user here"),
    (R, "550 Unknown user"),
    (R, "550 User unknown"),
    (R, "550 Requested action not taken: mailbox unavailable"),
    (R, "550 <x@y.example> User not found"),
    (R, "550 That account does not exist"),
    (R, "554 delivery error: dd This user doesn't have a y.example account"),
    (R, "551 5.1.6 user not local"),
    (R, "551 User not local; please try <a@b.example>"),
    (R, "556 5.1.10 domain does not accept mail"),
    (R, "556 domain does not accept mail"),
    (R, "521 5.2.1 delivery to this address is not accepted"),
    (R, "550 unrouteable address"),
    (R, "550 <a@b.example> not found"),
    (R, "553 sorry, badrcptto"),
    (R, "550 RESOLVER.ADR.RecipNotFound; not found"),
    (R, "550 There is no one at this address"),
    (R, "550 unknown local-part"),
    (R, "550 this account has been disabled or discontinued"),
    (R, "550 recipient is only accepting mail from specific addresses"),
    (R, "550 you have been blocked by the recipient"),
    (R, "552 mailbox has exceeded its disk space limit"),
    (R, "552 exceeded storage allocation"),
    (R, "550 The user's space has been used up"),
    (R, "550 Callout verification failed: host mx.example[192.0.2.1] said: user rejected"),
]
SENDER = [
    (M, "550 5.1.8 <s@x.example>: Sender address rejected: Domain not found"),
    (M, "553 5.1.7 bad sender"),
    (M, "501 Invalid MAIL FROM address provided"),
    (R, "504 5.5.2 <s@localhost>: Sender address rejected: need fully-qualified address"),
    (M, "554 5.7.1 <s@x.example>: Sender address rejected: Access denied"),
    (F, "554 5.7.1 Service unavailable; link listed by uribl"),
]
NOT_VERIFIED = [
    (R, "550 5.7.1 <s@x.example>: Sender address rejected: not owned by user bob"),
    (M, "550 5.7.60 SMTP; Client does not have permissions to send as this sender"),
    (F, "554 5.2.0 STOREDRV.Submission.Exception:SendAsDeniedException"),
    (
        F,
        "554 Message rejected: Email address is not verified. The following identities failed the"
        " check in region EU-WEST-1: s@x.example",
    ),
    (F, "554 identities failed the check"),
    (F, "554 Sender not verified"),
    (M, "553 Relaying disallowed as s@x.example"),
    (R, "552 Relaying disallowed as s@x.example"),
    (M, "554 5.1.0 The Sender's Address Was Not Allowed"),
]
DOMAIN = [
    (R, "554 5.7.1 Service unavailable; Sender address [x] blocked using dbl.spamhaus.org"),
    (F, "554 Sender domain listed at lists.example"),
    (M, "550 5.7.1 x.example blocked using rhsbl.example"),
    (F, "550 5.7.25 the sending address does not have a PTR record"),
    (F, "550 5.7.26 Unauthenticated email from x.example is not accepted due to domain's policy"),
    (F, "550 5.7.28 an unusual rate of mail from your domain"),
    (F, "550 5.7.29 sent without TLS"),
    (F, "550 5.7.515 Access denied, sending domain doesn't meet the required level"),
    (F, "550 5.7.1 Rejected: SPF authentication failed and not authenticated by DKIM"),
    (F, "550 5.7.1 this message does not meet IPv6 sending guidelines regarding PTR records"),
]
EXPANSION = [(R, "550 5.7.2 mailing list expansion prohibited")]
MESSAGE = [
    (M, "552 5.3.4 too big"),
    (F, "552 5.7.0 illegal attachment"),
    (F, "554 5.7.1 spam"),
    (F, "554 5.6.0 bad header"),
    (D, "554 5.6.1 no"),
    (F, "500 Line too long"),
    (F, "500 5.2.3 message too large"),
    (F, "550 5.7.1 Message contains a virus"),
    (F, "550 5.7.1 Message refused by content policy"),
    (F, "554 5.7.1 URL listed in spamhaus"),
    (F, "554 5.4.6 Too many hops"),
    (F, "550 maximum allowed line length is 998 octets, got 5000"),
    (F, "554 5.7.0 Reject - BANNED: .exe"),
    (
        F,
        "550 5.7.1 [192.0.2.1 12] this message is likely suspicious due to the very low reputation"
        " of the sending domain",
    ),
]
UNKNOWN = [
    (R, "550 5.7.1 no"),
    (R, "553 no"),
    (D, "554 no"),
    (F, "554 5.7.1 Message rejected"),
    (F, "550 no"),
]


@pytest.mark.parametrize(
    ("rows", "result", "reason", "sure"),
    [
        (LOGIN, Result.HELD, Reason.UPSTREAM_AUTH_FAILED, True),
        (TLS, Result.HELD, Reason.UPSTREAM_TLS_REQUIRED, True),
        (REFUSED, Result.HELD, Reason.UPSTREAM_REFUSED, True),
        (ACCOUNT, Result.HELD, Reason.UPSTREAM_ACCOUNT_BLOCKED, True),
        (QUOTA, Result.HELD, Reason.UPSTREAM_QUOTA_EXCEEDED, True),
        (RECIPIENT, Result.FAILED, Reason.UPSTREAM_REJECTED, True),
        (SENDER, Result.FAILED, Reason.UPSTREAM_REJECTED, True),
        (NOT_VERIFIED, Result.FAILED, Reason.SENDER_NOT_VERIFIED, True),
        (DOMAIN, Result.FAILED, Reason.SENDER_DOMAIN_REJECTED, True),
        (EXPANSION, Result.FAILED, Reason.UPSTREAM_REJECTED, True),
        (MESSAGE, Result.FAILED, Reason.UPSTREAM_REJECTED, True),
        (UNKNOWN, Result.FAILED, Reason.UPSTREAM_REJECTED, False),
    ],
    ids=[
        "login",
        "tls",
        "us",
        "account",
        "quota",
        "recipient",
        "sender",
        "not-verified",
        "domain",
        "expansion",
        "message",
        "unknown",
    ],
)
def test_what_a_refusal_is_about(
    rows: list[tuple[Stage, str]], result: Result, reason: Reason, sure: bool
) -> None:
    found = {(stage, text): classify_reply(stage, reply(text)) for stage, text in rows}
    wrong = {
        case: (meaning.result, meaning.reason, meaning.sure)
        for case, meaning in found.items()
        if (meaning.result, meaning.reason, meaning.sure) != (result, reason, sure)
    }
    assert wrong == {}


_PLAIN = (Result.DEFERRED, Reason.UPSTREAM_DEFERRED)
_THROTTLED = (Result.DEFERRED, Reason.UPSTREAM_THROTTLED)
_SPLIT = (Result.DEFERRED, Reason.UPSTREAM_TOO_MANY_RECIPIENTS)
_STEP = (Result.DEFERRED, Reason.UPSTREAM_PROTOCOL_ERROR)
_DOMAIN = (Result.DEFERRED, Reason.SENDER_DOMAIN_REJECTED)
_NEVER = (Result.FAILED, Reason.UPSTREAM_REJECTED)
_USED_UP = (Result.HELD, Reason.UPSTREAM_QUOTA_EXCEEDED)

DEFERRALS: list[tuple[Stage, str, tuple[Result, Reason], Effect | None, float | None]] = [
    (M, "450 4.1.0 later", _PLAIN, Slow(), None),
    (M, "421 4.7.0 try again later", _PLAIN, Slow(), None),
    (R, "450 4.2.0 <a@b.example>: Recipient address rejected: Greylisted", _PLAIN, None, None),
    (R, "451 4.7.1 Greylisting in action, please come back in 300 seconds", _PLAIN, None, 300),
    (R, "450 4.7.1 Client host rejected: Greylisted, try again in 5 minutes", _PLAIN, None, 300),
    (R, "450 4.2.0 mailbox busy", _PLAIN, None, None),
    (R, "452 4.2.2 mailbox full", _PLAIN, None, None),
    (R, "452 4.3.1 insufficient system storage", _PLAIN, None, None),
    (R, "450 4.2.1 The user you are trying to contact is receiving mail too quickly", _PLAIN, None,
     None),
    (F, "450 4.2.1 The user is receiving mail at a rate that prevents", _PLAIN, None, None),
    (R, "421 4.3.2 shutting down", _PLAIN, Slow(), None),
    (D, "451 4.3.0 disk", _PLAIN, Slow(), None),
    (F, "421 4.7.26 this mail is unauthenticated and rate limited", _DOMAIN, None, None),
    (F, "450 The given data was invalid. The subject is required.", _NEVER, None, None),
    (F, "451 4.3.0 Temporary service failure", _PLAIN, Slow(), None),
    (F, "451 Timeout waiting for data from client", _PLAIN, Slow(), None),
    (F, "451 4.6.0 later", _PLAIN, None, None),
    (F, "454 later", _PLAIN, Slow(), None),
    (F, "454 Throttling failure: Maximum sending rate exceeded.", _THROTTLED, Slow(), None),
    (F, "432 4.3.2 slow", _PLAIN, Slow(), None),
    (M, "421 Message from (192.0.2.1) temporarily deferred", _THROTTLED, Slow(), None),
    (M, "450 too frequent connects from 192.0.2.1", _THROTTLED, Slow(), None),
    (R, "452 Too many recipients received this hour (throttled)", _THROTTLED, Slow(), None),
    (R, "450 4.2.1 Peak SMTP relay limit exceeded for customer", _THROTTLED, Slow(), None),
    (M, "421 4.7.28 an unusual rate of unsolicited mail", _THROTTLED, Slow(), None),
    (M, "421 4.4.5 Server busy", _THROTTLED, Slow(), None),
    (M, "450 4.7.1 Error: too much mail from 192.0.2.1", _THROTTLED, Slow(), None),
    (M, "451 4.7.0 rate limit, retry in 2 minutes", _THROTTLED, Slow(), 120),
    (M, "432 4.3.2 Concurrent connections limit exceeded.", _THROTTLED, Cap(), None),
    (F, "432 4.3.2 STOREDRV.ClientSubmit; sender thread limit exceeded.", _THROTTLED, Cap(), None),
    (M, "421 4.4.5 Too many connections from your host.", _THROTTLED, Cap(), None),
    (M, "421 Too many concurrent SMTP connections", _THROTTLED, Cap(), None),
    (M, "421 too many messages in this connection", _PLAIN, Reconnect(), None),
    (M, "421 4.4.2 Too many mails sent over this session", _PLAIN, Reconnect(), None),
    (D, "421 4.7.0 mx.example.net Error: too many errors", _PLAIN, Reconnect(), None),
    (R, "452 4.5.3 Too many recipients", _SPLIT, Split(), None),
    (R, "452 too many rcpts", _SPLIT, Split(), None),
    (R, "552 too many recipients", _SPLIT, Split(), None),
    (R, "552 5.5.3 no more", _SPLIT, Split(), None),
    (R, "451 4.3.0 Multiple destination domains per transaction is unsupported.", _SPLIT, Split(),
     None),
    (R, "452 4.5.3 Domain policy size per transaction exceeded", _SPLIT, Split(), None),
    (M, "500 5.5.2 what", _STEP, None, None),
    (M, "502 5.5.1 no MAIL here", _STEP, None, None),
    (M, "555 5.5.4 unknown parameter", _STEP, None, None),
    (R, "503 MAIL first", _STEP, None, None),
    (D, "503 what", _STEP, None, None),
    (F, "503 what", _STEP, None, None),
    (R, "550 5.4.5 Daily SMTP relay limit exceeded for user.",
     (Result.DEFERRED, Reason.UPSTREAM_QUOTA_EXCEEDED), None, 3600),
    (F, "454 Throttling failure: Daily message quota exceeded.", _USED_UP, PauseUntil(seconds=600),
     None),
    (F, "451 Daily limit reached, try again in 2 hours", _USED_UP, PauseUntil(seconds=7200), 7200),
    (M, "420 Domain d.example is not allowed to send: recipient limit exceeded, try again after"
     " Fri, 01 May 2026 10:00:00 UTC", _USED_UP, PauseUntil(at=1777629600), None),
]  # fmt: skip


@pytest.mark.parametrize(
    ("stage", "text", "expected", "effect", "after"),
    DEFERRALS,
    ids=[f"{stage.name} {text[:40]}" for stage, text, *_ in DEFERRALS],
)
def test_what_waits_and_how(
    stage: Stage,
    text: str,
    expected: tuple[Result, Reason],
    effect: Effect | None,
    after: float | None,
) -> None:
    meaning = classify_reply(stage, reply(text))
    assert (meaning.result, meaning.reason) == expected
    assert (meaning.effect, meaning.retry_after) == (effect, after)


def test_every_row_is_reached() -> None:
    cases = [
        *LOGIN,
        *TLS,
        *REFUSED,
        *ACCOUNT,
        *QUOTA,
        *RECIPIENT,
        *SENDER,
        *NOT_VERIFIED,
        *DOMAIN,
        *EXPANSION,
        *MESSAGE,
        *UNKNOWN,
        (M, "550 5.7.1 no"),
        *((stage, text) for stage, text, *_ in DEFERRALS),
    ]
    reached = {id(RULES.find(stage, reply(text))) for stage, text in cases}
    assert [row for row in RULES.rows if id(row) not in reached] == []


def test_every_refusal_from_mail_on_has_a_row_and_before_it_only_some() -> None:
    for stage in Stage:
        for text in ("450 hm", "550 hm"):
            found = RULES.find(stage, reply(text)) is not None
            assert found == (stage >= Stage.MAIL)
    assert all(stage < Stage.MAIL for stage in SESSION)


@pytest.mark.parametrize(
    "text",
    [
        '550 5.1.1 <"relay access denied"@evil.example>: no such user',
        '550 no such user "authentication required"@evil.example',
        "550 no such user relay-access-denied@helo.example",
        "550 no such user, see https://help.example/relay%20denied?helo=client-host-rejected",
        "550 no such user <authentication.required@helo.client.example>",
    ],
)
def test_a_recipients_address_cannot_hold_the_upstream(text: str) -> None:
    assert classify_reply(R, reply(text)).result is Result.FAILED
