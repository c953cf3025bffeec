"""Connections that are closed on us before they were of any use: counted in a row, opened ever more
slowly, and blamed on the upstream from the third on.
"""

from __future__ import annotations

import pytest

from mailrelay_gateway.contract.stage import Stage
from mailrelay_gateway.couriers.replies.classify import classify_transaction
from mailrelay_gateway.couriers.replies.verdict import Ending, Verdict
from mailrelay_gateway.couriers.smtp.barren import Barren, blame, closed, fruitful, not_before
from mailrelay_gateway.couriers.smtp.health import Probing
from mailrelay_gateway.message.envelope import Result
from mailrelay_gateway.reasons import Reason
from mailrelay_gateway.smtp.client.events import Transcript
from mailrelay_gateway.smtp.reply import Reply

OK = Reply(250, "", "ok")
CLOSING = Reply(421, "4.7.0", "try again later")
PROBING = Probing(first=5.0, factor=2.0, longest=300.0, spread=0.2)


def test_they_are_counted_in_a_row() -> None:
    state = closed(Barren(), fruit=False, opened_at=1.0, now=2.0)
    state = closed(state, fruit=False, opened_at=3.0, now=4.0)
    assert (state, state.hold) == (Barren(count=2, at=4.0), False)
    state = closed(state, fruit=False, opened_at=5.0, now=6.0)
    assert state.hold
    assert closed(state, fruit=True, opened_at=7.0, now=8.0) == Barren()


def test_a_restart_that_breaks_all_at_once_counts_once() -> None:
    state = Barren()
    for opened_at in range(10):
        state = closed(state, fruit=False, opened_at=float(opened_at), now=20.0)
    assert state == Barren(count=1, at=20.0)


def test_the_next_one_is_opened_ever_more_slowly() -> None:
    delays = [not_before(Barren(count=count, at=100.0), PROBING) for count in range(5)]
    assert delays == [0.0, 0.0, 105.0, 110.0, 120.0]


def verdict_of(transcript: Transcript) -> Verdict:
    closing = transcript.data or transcript.mail
    return classify_transaction(
        transcript, Ending.CLOSING, attempts=[0], reused=False, closing=closing
    )


@pytest.mark.parametrize(
    ("transcript", "stage", "words"),
    [
        (Transcript(CLOSING, (None,), None, None, 1, False), Stage.MAIL, "to MAIL"),
        (Transcript(OK, (OK,), CLOSING, None, 3, False), Stage.DATA, "to DATA"),
    ],
)
def test_the_third_421_in_a_row_is_the_upstreams(
    transcript: Transcript, stage: Stage, words: str
) -> None:
    verdict = verdict_of(transcript)
    assert blame(Barren(count=1), verdict) is verdict
    blamed = blame(Barren(count=2), verdict)
    assert [meaning.result for meaning in blamed.meanings] == [Result.HELD]
    assert blamed.failure is not None
    assert (blamed.failure.stage, blamed.failure.reason) == (stage, Reason.UPSTREAM_REFUSED)
    assert f"answered 421 4.7.0 try again later {words}" in blamed.failure.detail


def test_another_answer_is_left_as_it_is() -> None:
    transcript = Transcript(OK, (OK,), Reply(354, "", "go"), Reply(452, "4.3.1", "full"), 4, True)
    verdict = classify_transaction(transcript, Ending.COMPLETE, attempts=[0], reused=False)
    assert blame(Barren(count=5), verdict) is verdict


def test_recipients_that_were_answered_by_themselves_are_fruit() -> None:
    greylisted = Reply(450, "4.2.0", "greylisted")

    def ended(recipients: tuple[Reply | None, ...], mail: Reply = OK) -> Verdict:
        transcript = Transcript(mail, recipients, None, None, 1 + len(recipients), False)
        return classify_transaction(
            transcript,
            Ending.CLOSING,
            attempts=[0] * len(recipients),
            reused=False,
            closing=CLOSING,
        )

    assert fruitful(ended((greylisted, OK)))
    assert fruitful(ended((greylisted, None)))
    assert not fruitful(ended((OK, OK)))
    assert not fruitful(ended((CLOSING, None)))
    assert not fruitful(ended((None,), mail=CLOSING))
