"""What providers say, replayed by a server at the stage at which they say it: what becomes of the
message, when it is tried again, what the upstream's or the sender's condition says, and what is
counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from mailrelay_gateway.contract.documents import Login
from mailrelay_gateway.contract.stage import Stage
from mailrelay_gateway.contract.status import UpstreamState
from mailrelay_gateway.couriers.smtp.health import Probing
from mailrelay_gateway.message.effect import Cap, PauseUntil, Reconnect, Slow, Split
from mailrelay_gateway.message.envelope import Outcome, Result
from mailrelay_gateway.reasons import Reason
from mailrelay_operator.api.reasons import Reason as Shown
from tests.integration.couriers.conftest import Rig
from tests.integration.couriers.memory_work import attempt
from tests.integration.couriers.scripted_server import Peer, Script, take_all

#: A held upstream stays so, to be looked at.
NEVER = Probing(first=3600, longest=3600, spread=0.0)
LOGIN = Login(username="u", password="p")
HELO, AUTH, MAIL, RCPT, DATA, DOT = (
    Stage.EHLO,
    Stage.AUTH,
    Stage.MAIL,
    Stage.RCPT,
    Stage.DATA,
    Stage.END_OF_MESSAGE,
)
D, F, H = Result.DEFERRED, Result.FAILED, Result.HELD
NOW = 1_777_622_400.0  # 2026-05-01 08:00 UTC


def answering(stage: Stage, reply: str) -> Script:
    """Says `reply` at that stage, and takes all mail after it."""

    async def script(peer: Peer) -> None:
        if stage is Stage.GREETING:
            await peer.say(reply)
            await peer.until_quit()
            return
        if stage is HELO:
            await peer.say("220 script ESMTP")
            await peer.hear("EHLO")
            await peer.say(reply)
            await peer.until_quit()
            return
        await peer.greet("PIPELINING", "AUTH PLAIN") if stage is AUTH else await peer.greet()
        if stage is AUTH:
            await peer.hear("AUTH")
            await peer.say(reply)
            await peer.until_quit()
            return
        await peer.hear("MAIL", "RCPT", "DATA")
        if stage is MAIL:
            await peer.say(reply, "503 5.5.1 MAIL first", "503 5.5.1 MAIL first")
        elif stage is RCPT:
            await peer.say("250 ok", reply, "554 5.5.1 no valid recipients")
        elif stage is DATA:
            await peer.say("250 ok", "250 ok", reply)
        else:
            await peer.say("250 ok", "250 ok", "354 go")
            await peer.hear_body()
            await peer.say(reply)
        await take_all(peer)

    return script


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A reply, and what it means. `after`: seconds that the reply or the rule names."""

    provider: str
    stage: Stage
    reply: str
    result: Result
    reason: str
    effect: object = None
    after: float | None = None

    def __str__(self) -> str:
        return f"{self.provider}: {self.reply}"[:60]


def row(provider: str, stage: Stage, reply: str, result: Result, reason: str, *more: Any) -> Row:
    effect, after = [*more, None, None][:2]
    return Row(
        provider=provider,
        stage=stage,
        reply=reply,
        result=result,
        reason=reason,
        effect=effect,
        after=after,
    )


SLOW, CAP, TEN_MINUTES = Slow(), Cap(), PauseUntil(seconds=600)
PLAIN, THROTTLED, QUOTA = "UpstreamDeferred", "UpstreamThrottled", "UpstreamQuotaExceeded"
LOGIN_FAILED, REFUSED, BLOCKED = (
    "UpstreamAuthFailed",
    "UpstreamRefused",
    "UpstreamAccountBlocked",
)
REJECTED, UNVERIFIED, DOMAIN = "UpstreamRejected", "SenderNotVerified", "SenderDomainRejected"

#: At MAIL and later.
ROWS = [
    row("SES", DOT, "454 Throttling failure: Maximum sending rate exceeded", D, THROTTLED, SLOW),
    row("SES", DOT, "454 Throttling failure: Daily message quota exceeded", H, QUOTA, TEN_MINUTES),
    row("SES", MAIL, "421 Too many concurrent SMTP connections", D, THROTTLED, CAP),
    row("SES", DOT, "451 Temporary service failure", D, PLAIN, SLOW),
    row("SES", DOT, "451 Timeout waiting for data from client", D, PLAIN, SLOW),
    row("SES", MAIL, "530 Authentication required", H, LOGIN_FAILED),
    row(
        "SES",
        DOT,
        "554 Message rejected: Email address is not verified. The following identities failed the"
        " check in region EU-WEST-1: app@example.com",
        F,
        UNVERIFIED,
    ),
    row("SES", MAIL, "501 Invalid MAIL FROM address provided", F, REJECTED),
    row("SendGrid", DOT, "451 You've exceeded your messaging limits", H, QUOTA, TEN_MINUTES),
    row("SendGrid", MAIL, "421 Message from (192.0.2.1) temporarily deferred", D, THROTTLED, SLOW),
    row("SendGrid", MAIL, "450 too frequent connects from 192.0.2.1", D, THROTTLED, SLOW),
    row(
        "SendGrid",
        RCPT,
        "452 Too many recipients received this hour (throttled)",
        D,
        THROTTLED,
        SLOW,
    ),
    row(
        "Mailgun",
        MAIL,
        "421 Domain d.example is not allowed to send: Please activate your Mailgun account",
        H,
        BLOCKED,
    ),
    row(
        "Mailgun",
        MAIL,
        "420 Domain d.example is not allowed to send: recipient limit exceeded, try again after"
        " Fri, 01 May 2026 10:00:00 UTC",
        H,
        QUOTA,
        PauseUntil(at=NOW + 7200),
        7200,
    ),
    row("Office365", MAIL, "432 4.3.2 Concurrent connections limit exceeded.", D, THROTTLED, CAP),
    row(
        "Office365",
        DOT,
        "432 4.3.2 STOREDRV.ClientSubmit; sender thread limit exceeded.",
        D,
        THROTTLED,
        CAP,
    ),
    row(
        "Office365",
        DOT,
        "554 5.2.0 STOREDRV.Submission.Exception:SubmissionQuotaExceededException",
        H,
        QUOTA,
        TEN_MINUTES,
    ),
    row(
        "Office365",
        DOT,
        "554 5.2.2 mailbox full; STOREDRV.Submission.Exception:QuotaExceededException; Failed",
        H,
        BLOCKED,
    ),
    row(
        "Office365",
        MAIL,
        "550 5.7.30 Basic authentication is not supported for Client Submission",
        H,
        LOGIN_FAILED,
    ),
    row(
        "GoogleWorkspace",
        MAIL,
        "450 4.2.1 Peak SMTP relay limit exceeded for customer",
        D,
        THROTTLED,
        SLOW,
    ),
    row(
        "GoogleWorkspace",
        RCPT,
        "550 5.4.5 Daily SMTP relay limit exceeded for user.",
        D,
        QUOTA,
        None,
        3600,
    ),
    row(
        "GoogleWorkspace",
        RCPT,
        "550 5.7.1 Daily SMTP relay limit exceeded for customer",
        H,
        QUOTA,
        TEN_MINUTES,
    ),
    row("Gmail", DOT, "550 5.4.5 Daily user sending quota exceeded", H, QUOTA, TEN_MINUTES),
    row(
        "Gmail MX",
        DOT,
        "421 4.7.0 [192.0.2.1] Our system has detected an unusual rate of unsolicited mail"
        " originating from your IP address",
        D,
        THROTTLED,
        SLOW,
    ),
    row("Gmail MX", MAIL, "421 4.4.5 Server busy, try again later", D, THROTTLED, SLOW),
    row("Gmail MX", DOT, "451 4.3.0 Mail server temporarily rejected message", D, PLAIN, SLOW),
    row(
        "Gmail MX",
        RCPT,
        "450 4.2.1 The user you are trying to contact is receiving mail too quickly",
        D,
        PLAIN,
    ),
    row("Gmail MX", DOT, "550 5.7.25 192.0.2.1 does not have a PTR record", F, DOMAIN),
    row("Gmail MX", DOT, "550 5.7.26 Unauthenticated email is not accepted", F, DOMAIN),
    row("Gmail MX", DOT, "550 5.7.28 an unusual rate of unsolicited mail", F, DOMAIN),
    row("Gmail MX", DOT, "550 5.7.29 sent without TLS encryption", F, DOMAIN),
    row(
        "Gmail MX",
        DOT,
        "550 5.7.1 this message does not meet IPv6 sending guidelines regarding PTR records",
        F,
        DOMAIN,
    ),
    row(
        "Outlook",
        DOT,
        "550 5.7.515 Access denied, sending domain does not meet the required authentication level",
        F,
        DOMAIN,
    ),
    row("ZeptoMail", MAIL, "553 Relaying disallowed as app@example.com", F, UNVERIFIED),
    row("ZeptoMail", RCPT, "552 Relaying disallowed as app@example.com", F, UNVERIFIED),
    row(
        "ZeptoMail",
        MAIL,
        "530 Must issue a STARTTLS command first",
        H,
        "UpstreamTlsRequired",
    ),
    row("Zoho", DOT, "550 5.4.6 Unusual sending activity detected", H, BLOCKED),
    row("SocketLabs", MAIL, "421 4.4.5 - Too many connections from your host", D, THROTTLED, CAP),
    row("MX", DATA, "421 too many messages in this connection", D, PLAIN, Reconnect()),
    row("MX", RCPT, "451 4.7.1 Greylisted, try again in 92 seconds", D, PLAIN, None, 92),
    row(
        "MX", RCPT, "450 4.2.0 busy, try again after 2026-05-01 09:00:00 UTC", D, PLAIN, None, 3600
    ),
    # A refusal of us, not of the message.
    row("smarthost", RCPT, "554 5.7.1 <u@x>: Relay access denied", H, REFUSED),
    row("smarthost", RCPT, "554 5.7.1 Client host rejected: Access denied", H, REFUSED),
    row(
        "smarthost",
        RCPT,
        "504 5.5.2 <x>: Helo command rejected: need fully-qualified hostname",
        H,
        REFUSED,
    ),
    row("smarthost", RCPT, "550 5.7.54 SMTP; Unable to relay", H, REFUSED),
    row("smarthost", RCPT, "550 relay not permitted", H, REFUSED),
    row("smarthost", RCPT, "550 Authentication required", H, LOGIN_FAILED),
    row(
        "smarthost",
        RCPT,
        "550 Please turn on SMTP Authentication in your mail client",
        H,
        LOGIN_FAILED,
    ),
    row("smarthost", MAIL, "550 Client was not authenticated", H, LOGIN_FAILED),
    row("smarthost", MAIL, "521 5.3.2 no mail here", H, REFUSED),
    row("smarthost", MAIL, "554 You are not allowed to connect", H, REFUSED),
]

#: Before MAIL: nothing is charged to a message.
SESSIONS = [
    row("SES", AUTH, "535 Authentication Credentials Invalid", H, LOGIN_FAILED),
    row(
        "SendGrid",
        AUTH,
        "451 Authentication failed: Maximum credits exceeded",
        H,
        QUOTA,
        TEN_MINUTES,
    ),
    row("Office365", AUTH, "535 5.7.139 Authentication unsuccessful", H, LOGIN_FAILED),
    row("ZeptoMail", AUTH, "535 Authentication Failed", H, LOGIN_FAILED),
    row("Gmail", HELO, "421 4.7.0 Try again later, closing connection. (EHLO)", H, REFUSED),
    row(
        "SocketLabs", Stage.GREETING, "421 4.4.5 - Too many connections from your host", H, REFUSED
    ),
    row("SES", Stage.GREETING, "421 4.7.0 Try again in 30 seconds", H, REFUSED),
]


def shown_on(reason: str) -> tuple[str, ...]:
    """The conditions on which the operator shows the gateway's reason."""
    return next(one.conditions for one in Shown if one.value == reason)


def attempts(rig: Rig, result: Result, code: str) -> float:
    return rig.metric(
        "delivery_attempts_total",
        upstream="smarthost",
        result=result.value,
        code_class=f"{code[0]}xx",
    )


@pytest.mark.parametrize("case", ROWS, ids=str)
async def test_what_a_provider_says_of_a_message(rig: Rig, case: Row) -> None:
    server = await rig.serve(answering(case.stage, case.reply))
    courier = rig.run(rig.config(server.port), probing=NEVER, clock=lambda: NOW)
    rig.work.add(attempt(1))
    [outcome] = await rig.work.until_finished(1)
    assert (outcome.result, outcome.reason.value) == (case.result, case.reason)
    assert outcome.effect == case.effect
    assert outcome.retry_after == case.after
    assert str(outcome.reply) == case.reply
    assert attempts(rig, case.result, case.reply) == 1
    paused = isinstance(case.effect, Slow | PauseUntil)
    assert rig.work.slowed == ([(case.effect, case.after)] if paused else [])
    [status] = courier.status()
    if case.result is Result.HELD:
        assert (status.state, status.reason) == (UpstreamState.HELD, case.reason)
        assert case.reply in status.message
        assert "UpstreamReachable" in shown_on(status.reason)
        assert rig.metric("upstream_up", upstream="smarthost") == 0
    else:
        assert (status.state, rig.work.holds) == (UpstreamState.UP, [])
    about_sender = [(fault.uid, fault.reason) for fault in status.senders]
    if case.reason in (UNVERIFIED, DOMAIN):
        assert about_sender == [("uid", case.reason)]
        assert case.reply in status.senders[0].message
        assert "Deliverable" in shown_on(case.reason)
    else:
        assert about_sender == []


@pytest.mark.parametrize("case", SESSIONS, ids=str)
async def test_what_a_provider_says_of_a_session(rig: Rig, case: Row) -> None:
    server = await rig.serve(answering(case.stage, case.reply))
    login = LOGIN if case.stage is AUTH else None
    courier = rig.run(rig.config(server.port, login=login), probing=NEVER, clock=lambda: NOW)
    rig.work.add(attempt(1))
    await rig.work.until(lambda: bool(rig.work.holds))
    [(reason, detail)] = rig.work.holds
    assert reason.value == case.reason
    assert case.reply in detail
    assert rig.work.finished == []
    assert rig.work.slowed == ([(case.effect, case.after)] if case.effect is not None else [])
    [status] = courier.status()
    assert (status.state, status.reason) == (UpstreamState.HELD, case.reason)
    assert "UpstreamReachable" in shown_on(status.reason)
    assert rig.metric("upstream_up", upstream="smarthost") == 0


@pytest.mark.parametrize(
    "reply",
    [
        "451 4.3.0 Multiple destination domains per transaction is unsupported.",
        "452 4.5.3 Your message has too many recipients.",
        "452 4.5.3 Domain policy size per transaction exceeded",
        "452 5.5.3 - Too many recipients",
    ],
)
async def test_too_many_recipients_go_in_the_next_transaction(rig: Rig, reply: str) -> None:
    async def one_only(peer: Peer) -> None:
        await peer.greet()
        await peer.hear("MAIL", "RCPT", "RCPT", "DATA")
        await peer.say("250 ok", "250 ok", reply, "354 go")
        await peer.hear_body()
        await peer.say("250 2.0.0 stored")
        await take_all(peer)

    server = await rig.serve(one_only)
    rig.run(rig.config(server.port), probing=NEVER)
    rig.work.add(attempt(1, recipients=["a@example.net", "b@example.org"]))
    taken, rest = await rig.work.until_finished(1)
    assert taken.result is Result.DELIVERED
    assert (rest.result, rest.effect) == (Result.DEFERRED, Split())
    assert attempts(rig, Result.DELIVERED, "2") == attempts(rig, Result.DEFERRED, "4") == 1


async def test_a_validation_that_never_passes_fails_at_the_third_attempt(rig: Rig) -> None:
    reply = "450 The given data was invalid. The subject field is required."
    server = await rig.serve(answering(DOT, reply))
    rig.run(rig.config(server.port, messages=1), probing=NEVER)
    outcomes: list[Outcome] = []
    for before in range(3):
        rig.work.add(attempt(before, attempts=before))
        outcomes = await rig.work.until_finished(before + 1)
    assert [one.result for one in outcomes] == [D, D, F]
    assert outcomes[0].reason is Reason.UPSTREAM_DEFERRED
    assert outcomes[2].reason is Reason.UPSTREAM_REJECTED


async def test_the_owner_says_otherwise_and_a_held_upstream_is_asked_at_once(rig: Rig) -> None:
    reply = "554 5.7.1 <u@x>: Relay access denied"
    server = await rig.serve(answering(RCPT, reply))
    config = rig.config(server.port)
    courier = rig.run(config, probing=NEVER)
    rig.work.add(attempt(1))
    await rig.work.until_finished(1)
    assert rig.state() is UpstreamState.HELD
    courier.configure(rig.with_replies(config, code=554, text="Relay ACCESS", outcome="Failed"))
    rig.work.add(attempt(2))
    await rig.work.until(lambda: rig.work.releases == 1)
    outcomes = await rig.work.until_finished(2)
    assert [(one.result, one.reason.value) for one in outcomes] == [(H, REFUSED), (F, REJECTED)]


async def test_the_owners_wait_is_kept(rig: Rig) -> None:
    server = await rig.serve(answering(DOT, "550 Too many messages"))
    config = rig.config(server.port)
    rig.run(
        rig.with_replies(config, code=550, text="too many messages", outcome="Deferred", after=600),
        probing=NEVER,
    )
    rig.work.add(attempt(1))
    [outcome] = await rig.work.until_finished(1)
    assert (outcome.result, outcome.retry_after) == (D, 600)
    assert rig.work.slowed == []
