"""What is refused about a sender's domain is shown until it is accepted again, or for a day."""

from __future__ import annotations

from mailrelay_gateway.contract.stage import Stage
from mailrelay_gateway.contract.status import SenderFault, UpstreamState
from mailrelay_gateway.couriers.replies.verdict import Meaning, Verdict
from mailrelay_gateway.couriers.smarthost.courier import bounded
from mailrelay_gateway.couriers.smtp.sender_faults import LASTS, MAX_FAULTS, SenderFaults
from mailrelay_gateway.couriers.smtp.telling import MAX_DETAIL
from mailrelay_gateway.message.envelope import Message, Result
from mailrelay_gateway.reasons import Reason
from mailrelay_gateway.smtp.reply import Reply
from mailrelay_operator.cluster.gateways import MAX_ANSWER
from tests.integration.couriers.memory_work import attempt
from tests.models import made

REPLY = Reply(550, "5.7.26", "unauthenticated")
REFUSED = Verdict((Meaning(Result.FAILED, Reason.SENDER_DOMAIN_REJECTED, REPLY),))
OTHERWISE = Verdict((Meaning(Result.FAILED, Reason.UPSTREAM_REJECTED, Reply(550, "", "no")),))
ACCEPTED = Verdict((Meaning(Result.DELIVERED, Reason.DELIVERED),), passed=Stage.END_OF_MESSAGE)


def message(sender: str = "app@example.com", uid: str = "uid") -> Message:
    return attempt(sender=sender, uid=uid).message


def told(faults: SenderFaults, now: float = 0.0) -> list[str]:
    return [fault.uid for fault in faults.told(now)]


def test_a_fault_says_who_what_and_since_when() -> None:
    faults = SenderFaults()
    faults.note(REFUSED, message(), 0.0)
    faults.note(REFUSED, message(), 5.0)
    assert faults.told(9.0) == (
        SenderFault(
            uid="uid",
            reason="SenderDomainRejected",
            message="550 5.7.26 unauthenticated (sender app@example.com)",
            since="1970-01-01T00:00:00Z",
        ),
    )


def test_other_refusals_are_none() -> None:
    faults = SenderFaults()
    faults.note(OTHERWISE, message(), 0.0)
    assert faults.told(0.0) == ()


def test_it_ends_when_mail_of_the_same_domain_gets_through() -> None:
    faults = SenderFaults()
    faults.note(REFUSED, message(), 0.0)
    faults.note(ACCEPTED, message("app@other.example"), 1.0)
    faults.note(ACCEPTED, message(uid="another"), 1.0)
    assert told(faults) == ["uid"]
    faults.note(ACCEPTED, message("else@EXAMPLE.com"), 2.0)
    assert told(faults) == []


def test_it_ends_after_a_day_without_another_one() -> None:
    faults = SenderFaults()
    faults.note(REFUSED, message(), 0.0)
    faults.note(REFUSED, message(), 100.0)
    assert told(faults, LASTS + 99) == ["uid"]
    assert told(faults, LASTS + 101) == []


def test_the_number_is_bounded_and_a_sender_is_told_of_once() -> None:
    faults = SenderFaults()
    for number in range(MAX_FAULTS + 5):
        faults.note(REFUSED, message(uid=f"uid-{number}"), float(number))
    assert told(faults)[0] == "uid-5"
    assert len(told(faults)) == MAX_FAULTS
    faults.forget()
    faults.note(REFUSED, message("a@one.example"), 1.0)
    faults.note(REFUSED, message("a@two.example"), 2.0)
    [fault] = faults.told(3.0)
    assert "a@two.example" in fault.message


def test_nothing_sent_is_a_fault_too() -> None:
    faults = SenderFaults()
    faults.note_unattributable(message(), "X-Who would be 'a.b'", 0.0)
    [fault] = faults.told(1.0)
    assert (fault.reason, fault.message) == (
        "AttributionInvalid",
        "X-Who would be 'a.b' (sender app@example.com)",
    )


def test_an_answer_with_all_of_it_is_one_that_the_operator_reads() -> None:
    faults = SenderFaults()
    for number in range(MAX_FAULTS):
        uid = f"00000000-0000-0000-0000-{number:012d}"
        faults.note_unattributable(message(uid=uid), "€" * 9000, 0.0)
    shown = bounded(
        [
            made.upstream_status(
                name="u" * 63,
                state=UpstreamState.HELD,
                reason=Reason.UPSTREAM_TOKEN_URL_NOT_ALLOWED,
                message="€" * MAX_DETAIL,
                since="2026-01-01T00:00:00Z",
                senders=faults.told(1.0),
            )
        ]
        * 32
    )
    assert [len(one.senders) for one in shown[:3]] == [50, 50, 0]
    answer = made.gateway_status(upstreams=shown).model_dump_json(by_alias=True)
    assert len(answer.encode()) < MAX_ANSWER
