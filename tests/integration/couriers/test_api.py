"""SES over its API, with static keys and with keys for the pod's token. Every message arrives octet
for octet, a lost answer is uncertain, and nothing is lost or fails for a fault of ours or of the
provider.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from email.parser import BytesParser
from email.policy import default
from pathlib import Path

import pytest

from mailrelay_gateway.contract.attribution import Attribution
from mailrelay_gateway.contract.oauth2 import token_file_name
from mailrelay_gateway.contract.status import UpstreamState
from mailrelay_gateway.couriers.smtp.deadlines import Deadlines
from mailrelay_gateway.egress.rules import Rules
from mailrelay_gateway.message.effect import Elsewhere, Scope
from mailrelay_gateway.message.envelope import Result
from mailrelay_gateway.reasons import Reason
from tests.integration.couriers.api_rig import (
    AUDIENCE,
    KEYS,
    Api,
    api,
    in_turn,
    refusal,
    ses,
)
from tests.integration.couriers.conftest import Rig
from tests.integration.couriers.memory_work import BODY, UPSTREAM, attempt
from tests.peers.mail_apis import Ses
from tests.waiting import until

__all__ = ["api", "ses"]  # fixtures

# --- whole mail


async def test_a_message_arrives_octet_for_octet(api: Api, rig: Rig, ses: Ses) -> None:
    api.run(api.ses(ses, configuration_set="marketing", tenant="team-a"))
    rig.work.add(attempt(recipients=["one@example.net", "two@example.org"]))
    outcomes = await rig.work.until_finished()
    assert [o.result for o in outcomes] == [Result.DELIVERED] * 2
    assert str(outcomes[0].reply) == "250 2.0.0 MessageId 0100-1"
    (taken,) = ses.taken
    assert taken.raw == BODY
    assert taken.document == {
        "FromEmailAddress": "app@example.com",
        "Destination": {"ToAddresses": ["one@example.net", "two@example.org"]},
        "ConfigurationSetName": "marketing",
        "TenantName": "team-a",
        "Content": {"Raw": {}},
    }
    assert api.state is UpstreamState.UP


@pytest.mark.parametrize("size", [300 * 1024, 5 * 1024 * 1024])
async def test_large_messages_from_disk(
    api: Api, rig: Rig, ses: Ses, tmp_path: Path, size: int
) -> None:
    content = (BODY + bytes(range(32, 127)) * (size // 95))[:size]
    body = tmp_path / "body"
    body.write_bytes(content)
    api.run(api.ses(ses))
    rig.work.add(attempt(body=body))
    assert [o.result for o in await rig.work.until_finished()] == [Result.DELIVERED]
    assert ses.taken[0].raw == content


async def test_mail_beyond_ascii_is_re_encoded(api: Api, rig: Rig, ses: Ses) -> None:
    api.run(api.ses(ses))
    body = "From: app@example.com\r\nSubject: x\r\n\r\nGrüße\r\n".encode()
    rig.work.add(attempt(body=body, eight_bit=True))
    assert [o.result for o in await rig.work.until_finished()] == [Result.DELIVERED]
    assert ses.taken[0].raw.isascii()
    found = BytesParser(policy=default).parsebytes(ses.taken[0].raw)
    assert found.get_content().strip() == "Grüße"


SIGNED = (
    b"From: app@example.com\r\nMIME-Version: 1.0\r\nContent-Type: multipart/signed;"
    b' boundary="b"; protocol="application/pgp-signature"\r\n\r\n--b\r\n\r\nGr\xc3\xbc\xc3\x9fe'
    b"\r\n--b\r\nContent-Type: application/pgp-signature\r\n\r\nx\r\n--b--\r\n"
)


async def test_a_signature_is_not_broken_for_eight_bits(api: Api, rig: Rig, ses: Ses) -> None:
    api.run(api.ses(ses))
    rig.work.add(attempt(body=SIGNED, eight_bit=True))
    assert [o.result for o in await rig.work.until_finished()] == [Result.DELIVERED]
    assert ses.taken[0].raw == SIGNED


async def test_a_signed_message_with_overlong_lines_goes_elsewhere(
    api: Api, rig: Rig, ses: Ses
) -> None:
    api.run(api.ses(ses))
    taken = attempt(body=SIGNED.replace(b"Gr", b"Gr" * 500), eight_bit=True)
    rig.work.add(replace(taken, message=replace(taken.message, long_lines=True)))
    (outcome,) = await rig.work.until_finished()
    assert outcome.reason is Reason.SIGNATURE_WOULD_BREAK
    assert outcome.effect == Elsewhere()
    assert ses.requests == 0


async def test_notices_have_no_sender(api: Api, rig: Rig, ses: Ses) -> None:
    api.run(api.ses(ses))
    rig.work.add(attempt(sender=""))
    await rig.work.until_finished()
    assert "FromEmailAddress" not in ses.taken[0].document


async def test_notices_have_the_sender_that_stands_in(api: Api, rig: Rig, ses: Ses) -> None:
    api.run(api.ses(ses), null_sender="bounces@example.com")
    rig.work.add(attempt(sender=""))
    await rig.work.until_finished()
    assert ses.taken[0].document["FromEmailAddress"] == "bounces@example.com"


async def test_the_service_is_told_whose_mail_it_is(api: Api, rig: Rig, ses: Ses) -> None:
    named = Attribution(header="X-SES-TENANT", template="{namespace}")
    api.run(api.ses(ses), attribution=(named,))
    rig.work.add(attempt())
    await rig.work.until_finished()
    assert ses.taken[0].raw == b"X-SES-TENANT: team\r\n" + BODY


async def test_mail_whose_tenant_cannot_be_told_is_not_sent(api: Api, rig: Rig, ses: Ses) -> None:
    named = Attribution(header="X-SES-TENANT", template="{namespace}")
    api.run(api.ses(ses), attribution=(named,))
    taken = attempt(recipients=["one@example.net", "two@example.net"])
    strange = replace(taken.message.identity, namespace="a.b")
    rig.work.add(replace(taken, message=replace(taken.message, identity=strange)))
    outcomes = await rig.work.until_finished()
    assert [(o.result, o.reason, o.scope) for o in outcomes] == [
        (Result.HELD, Reason.ATTRIBUTION_INVALID, Scope.NAMESPACE)
    ] * 2
    assert not rig.work.holds
    assert ses.requests == 0
    assert api.courier.status()[0].senders[0].reason == Reason.ATTRIBUTION_INVALID


async def test_connections_are_kept_and_bounded(api: Api, rig: Rig, ses: Ses) -> None:
    ses.gate.clear()
    api.run(api.ses(ses), connections=3)
    rig.work.add(*[attempt(number) for number in range(60)])
    await until(lambda: ses.at_once == 3, "three requests at once")
    ses.gate.set()
    await rig.work.until_finished(60)
    assert ses.most_at_once == 3
    assert len(ses.connections) == 3
    assert max(most for most in rig.work.mosts if most) == 50


async def test_a_body_that_is_gone_is_our_fault(
    api: Api, rig: Rig, ses: Ses, tmp_path: Path
) -> None:
    api.run(api.ses(ses))
    rig.work.add(attempt(0, body=tmp_path / "gone", size=300_000), attempt(1))
    await rig.work.until_finished(2)
    assert sorted(rig.work.results) == [
        (Result.DEFERRED, Reason.INTERNAL_ERROR),
        (Result.DELIVERED, Reason.DELIVERED),
    ]
    assert not rig.work.holds


# --- keys


async def test_keys_for_the_pods_token(api: Api, rig: Rig, ses: Ses) -> None:
    ses.token = "ey.pod.token"
    (api.tokens / token_file_name(AUDIENCE)).write_text("ey.pod.token\n")
    api.run(api.ses(ses, api.web_identity(ses)))
    rig.work.add(*[attempt(number) for number in range(10)])
    await rig.work.until_finished(10)
    assert len(ses.taken) == 10
    assert ses.sessions == [f"mailrelay-{UPSTREAM}"]
    assert 3500 < rig.metric("oauth_token_expiry_seconds", upstream=UPSTREAM) <= 3600


async def test_keys_that_are_refused_are_replaced_once(api: Api, rig: Rig, ses: Ses) -> None:
    ses.token = "ey.pod.token"
    (api.tokens / token_file_name(AUDIENCE)).write_text("ey.pod.token")
    api.run(api.ses(ses, api.web_identity(ses)))
    rig.work.add(attempt(0))
    await rig.work.until_finished(1)
    ses.keys.clear()
    rig.work.add(attempt(1))
    await rig.work.until_finished(2)
    assert [result for result, _ in rig.work.results] == [Result.DELIVERED] * 2
    assert not rig.work.holds
    assert len(ses.sessions) == 2


async def test_what_was_refused_for_its_keys_is_given_back_by_a_stop(
    api: Api, rig: Rig, ses: Ses
) -> None:
    ses.token = "ey.pod.token"
    (api.tokens / token_file_name(AUDIENCE)).write_text("ey.pod.token")
    api.run(api.ses(ses, api.web_identity(ses)))
    rig.work.add(attempt(0))
    await rig.work.until_finished(1)
    ses.keys.clear()
    ses.sts_silent = True
    rig.work.add(attempt(1))
    await until(lambda: ses.asked_sts == 2, "new keys to be asked for")
    await asyncio.wait_for(api.courier.stop(0.1), 30)
    assert rig.work.results == [(Result.DELIVERED, Reason.DELIVERED)]


async def test_sts_that_refuses_holds_the_upstream_in_its_own_words(
    api: Api, rig: Rig, ses: Ses
) -> None:
    ses.token = "another"
    (api.tokens / token_file_name(AUDIENCE)).write_text("ey.pod.token-that-is-secret")
    api.run(api.ses(ses, api.web_identity(ses)))
    rig.work.add(attempt())
    await rig.work.until(lambda: rig.work.held is not None)
    assert rig.work.held is not None
    reason, detail = rig.work.held
    assert reason is Reason.UPSTREAM_TOKEN_REFUSED
    assert "STS answered 400 InvalidIdentityToken" in detail
    assert "ey.pod" not in detail
    ses.token = "ey.pod.token-that-is-secret"
    assert [o.result for o in await rig.work.until_finished()] == [Result.DELIVERED]


async def test_wrong_static_keys_hold_and_recover(api: Api, rig: Rig, ses: Ses) -> None:
    ses.keys.clear()
    api.run(api.ses(ses))
    rig.work.add(attempt())
    await rig.work.until(lambda: rig.work.held is not None)
    assert rig.work.held is not None
    assert rig.work.held[0] is Reason.UPSTREAM_AUTH_FAILED
    assert "UnrecognizedClientException" in rig.work.held[1]
    assert f"127.0.0.1:{ses.port}" in rig.work.held[1]
    assert {outcome.result for outcome in rig.work.outcomes} == {Result.HELD}
    ses.keys[KEYS.access_key_id] = KEYS
    rig.work.add(attempt(1))
    await until(lambda: len(ses.taken) == 1, "the next message")


# --- refusals


async def test_throttling_slows_the_lane(api: Api, rig: Rig, ses: Ses) -> None:
    ses.fault = in_turn(refusal(429, "TooManyRequestsException", "Maximum sending rate exceeded."))
    api.run(api.ses(ses))
    rig.work.add(attempt())
    (outcome,) = await rig.work.until_finished()
    assert (outcome.result, outcome.reason) == (Result.DEFERRED, Reason.UPSTREAM_THROTTLED)
    assert rig.work.slowed
    assert not rig.work.holds


async def test_a_refused_message_fails_alone(api: Api, rig: Rig, ses: Ses) -> None:
    words = "Email address is not verified. The following identities failed the check: a@b"
    ses.fault = in_turn(refusal(400, "MessageRejected", words))
    api.run(api.ses(ses), connections=1)
    rig.work.add(attempt(0), attempt(1))
    await rig.work.until_finished(2)
    assert rig.work.results == [
        (Result.FAILED, Reason.SENDER_NOT_VERIFIED),
        (Result.DELIVERED, Reason.DELIVERED),
    ]
    assert words in rig.work.outcomes[0].detail


async def test_what_the_service_cannot_take_goes_elsewhere(api: Api, rig: Rig, ses: Ses) -> None:
    api.run(api.ses(ses))
    rig.work.add(attempt(recipients=["jürgen@example.net"]))
    (outcome,) = await rig.work.until_finished()
    assert outcome.reason is Reason.ADDRESS_UNSENDABLE
    assert outcome.effect == Elsewhere()
    assert ses.requests == 0


# --- broken connections


async def test_a_lost_answer_is_uncertain(api: Api, rig: Rig, ses: Ses) -> None:
    ses.hang_up = True
    api.run(api.ses(ses))
    rig.work.add(attempt())
    (outcome,) = await rig.work.until_finished()
    assert (outcome.result, outcome.reason) == (Result.UNCERTAIN, Reason.REPLY_LOST)
    assert len(ses.taken) == 1


async def test_an_upstream_that_is_down_loses_nothing(api: Api, rig: Rig, ses: Ses) -> None:
    await ses.stop()
    api.run(api.ses(ses))
    rig.work.add(*[attempt(number) for number in range(5)])
    await rig.work.until(lambda: len(rig.work.holds) >= 2)  # and a probe found it so once more
    assert rig.work.holds[0][0] is Reason.UPSTREAM_UNREACHABLE
    assert rig.work.outcomes == []
    async with ses:
        await rig.work.until_finished(5)
        assert {result for result, _ in rig.work.results} == {Result.DELIVERED}


async def test_an_address_that_is_not_allowed_is_said(api: Api, rig: Rig, ses: Ses) -> None:
    api.run(api.ses(ses), rules=Rules())
    rig.work.add(attempt())
    await rig.work.until(lambda: rig.work.held is not None)
    assert rig.work.held is not None
    assert rig.work.held[0] is Reason.UPSTREAM_URL_NOT_ALLOWED
    assert ses.requests == 0


async def test_a_certificate_of_nobody_is_said(api: Api, rig: Rig, ses: Ses) -> None:
    api.run(api.ses(ses, ca=None))
    rig.work.add(attempt())
    await rig.work.until(lambda: rig.work.held is not None)
    assert rig.work.held is not None
    assert "certificate that is not trusted" in rig.work.held[1]
    assert ses.requests == 0


async def test_silence_on_all_connections_is_a_stall(api: Api, rig: Rig, ses: Ses) -> None:
    ses.gate.clear()
    api.run(api.ses(ses), connections=2, deadlines=Deadlines(stall=0.3))
    rig.work.add(*[attempt(number) for number in range(4)])
    await rig.work.until(lambda: rig.work.held is not None)
    assert rig.work.held is not None
    assert rig.work.held[0] is Reason.UPSTREAM_TIMEOUT
    ses.gate.set()
    await rig.work.until_finished(4)
    assert {result for result, _ in rig.work.results} == {Result.DELIVERED}


async def test_stopping_gives_back_or_leaves_uncertain(api: Api, rig: Rig, ses: Ses) -> None:
    ses.gate.clear()
    api.run(api.ses(ses))
    rig.work.add(attempt())
    await until(lambda: ses.at_once == 1, "the request")
    await asyncio.wait_for(api.courier.stop(0.1), 30)
    assert rig.work.results == [(Result.UNCERTAIN, Reason.REPLY_LOST)]


async def test_new_settings_leave_what_is_under_way_alone(api: Api, rig: Rig, ses: Ses) -> None:
    ses.gate.clear()
    api.run(api.ses(ses))
    rig.work.add(attempt(0))
    await until(lambda: ses.at_once == 1, "the request")
    config = api.config(api.ses(ses, tenant="other"))
    api.courier.configure(config)
    ses.gate.set()
    await rig.work.until_finished(1)
    rig.work.add(attempt(1))
    await rig.work.until_finished(2)
    assert [taken.document.get("TenantName") for taken in ses.taken] == [None, "other"]
