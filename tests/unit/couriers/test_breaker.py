"""Whose fault a refusal is: the upstream's when nobody gets past it, the message's when only it
does not.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailrelay_gateway.contract.stage import Stage
from mailrelay_gateway.couriers.replies.classify import classify_transaction
from mailrelay_gateway.couriers.replies.reply_text import signature
from mailrelay_gateway.couriers.replies.verdict import Ending, Verdict
from mailrelay_gateway.couriers.smtp.breaker import (
    HOLDS_OF_A_MESSAGE,
    HOLDS_OF_A_SENDER,
    MAX_CULPRITS,
    MAX_ROW,
    MAX_SUSPICIONS,
    MESSAGES_OF_ANYONE,
    SENDERS,
    Breaker,
    Decision,
    Event,
    Passed,
    Refused,
    judge,
    step,
)
from mailrelay_gateway.message.envelope import Result
from mailrelay_gateway.reasons import Reason
from mailrelay_gateway.smtp.client.events import Transcript
from mailrelay_gateway.smtp.reply import Reply

PASS, HOLD, CHARGE = Decision.PASS, Decision.HOLD, Decision.CHARGE
NO = "550  no"


def refused(message: str, *, sure: bool = False, stage: Stage = Stage.RCPT) -> Refused:
    """A refusal of `a1`: message 1 of sender a."""
    return Refused(stage=stage, signature=NO, sender=message[0], message=message, sure=sure)


def passed(sender: str, stage: Stage = Stage.END_OF_MESSAGE) -> Passed:
    return Passed(stage=stage, sender=sender)


def decisions(*events: Event | str, sure: bool = False) -> list[Decision]:
    """What is decided at each refusal; "a1" is one, "+a" a success of sender a."""
    state, found = Breaker(), []
    for event in events:
        if isinstance(event, str):
            event = passed(event[1]) if event[0] == "+" else refused(event, sure=sure)
        state, decision = step(state, event)
        if isinstance(event, Refused):
            found.append(decision)
    return found


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        # three senders
        ("+a +b +c a1 b1 c1", [PASS, PASS, HOLD]),
        ("a1 b1 c1", [PASS, PASS, HOLD]),
        # the next one holds at once, until somebody gets past it
        ("a1 b1 c1 d1 a2 +b a3 b2 c2", [PASS, PASS, HOLD, HOLD, HOLD, PASS, PASS, HOLD]),
        # a success in between
        ("a1 b1 +d c1 d1", [PASS] * 4),
        # a single sender: three messages
        ("a1 a2 a3", [PASS, PASS, HOLD]),
        ("+a a1 a2 a3", [PASS, PASS, HOLD]),
        # one message, however often
        ("a1 a1 a1 a1", [PASS] * 4),
        # one sender of several: it takes more
        ("+b +c a1 a2 a3 a4 a5", [PASS] * 5),
        ("+b +c a1 a2 a3 a4 a5 a6 a7 a8 a9 a0", [PASS] * 9 + [HOLD]),
        # two senders that are all there are
        ("a1 a2 b1", [PASS, PASS, HOLD]),
    ],
)
def test_an_unknown_refusal(events: str, expected: list[Decision]) -> None:
    assert decisions(*events.split()) == expected


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        # everybody is refused: held, and nobody is charged for it
        ("a1 b1 a1 b1 a1 b1 a1", [HOLD] * 7),
        ("a1 a2 a1 a2 a1 a2", [HOLD] * 6),
        # one message alone
        ("a1 a1 a1 a1", [HOLD, HOLD, CHARGE, CHARGE]),
        ("a1 +b a1 +b a1 +b a1", [HOLD, HOLD, CHARGE, CHARGE]),
        ("a1 +a a1 +a a1", [HOLD, HOLD, CHARGE]),
        # one sender's messages, while the others' get through
        ("a1 +b a2 +b a3 +b a4 +b a5", [HOLD] * 3 + [CHARGE] * 2),
        # ... until another one is refused too
        ("a1 +b a2 +b a3 +b a4 b1 a4 a5", [HOLD] * 3 + [CHARGE] + [HOLD] * 3),
        # its own successes do not accuse a sender
        ("a1 +a a2 +a a3 +a a4 +a a5", [HOLD] * 5),
    ],
)
def test_a_refusal_that_a_rule_takes_for_the_upstreams(
    events: str, expected: list[Decision]
) -> None:
    assert decisions(*events.split(), sure=True) == expected


def test_a_success_says_nothing_of_the_stages_behind_it() -> None:
    events: list[Event] = [refused("a1"), passed("d", Stage.MAIL), refused("b1"), refused("c1")]
    assert decisions(*events) == [PASS, PASS, HOLD]
    events = [refused("a1"), passed("d", Stage.RCPT), refused("b1"), refused("c1")]
    assert decisions(*events) == [PASS, PASS, PASS]


# --- on verdicts


def verdict(recipients: list[str], *, attempts: int = 1, mail: str = "250 ok") -> Verdict:
    def reply(text: str) -> Reply:
        code, _, rest = text.partition(" ")
        return Reply(int(code), "", rest)

    said = Transcript(reply(mail), tuple(map(reply, recipients)), reply("554 none"), None, 3, False)
    return classify_transaction(
        said, Ending.COMPLETE, attempts=[attempts] * len(recipients), reused=True
    )


def test_addresses_ids_and_numbers_do_not_make_refusals_differ() -> None:
    texts = [
        f"550 <{who}@x.example>: no, see https://x.example/{who} (id {number}ab-{number}) 'x{who}'"
        for who, number in (("ann", 17), ("bob", 4711), ("cyd", 3))
    ]
    state, found = Breaker(), []
    for who, text in zip("abc", texts, strict=True):
        state, result = judge(state, verdict([text]), sender=who, message=who)
        found.append(result)
    assert [v.meanings[0].result for v in found] == [Result.FAILED, Result.FAILED, Result.HELD]
    failure = found[2].failure
    assert failure is not None
    assert (failure.stage, failure.reason) == (Stage.RCPT, Reason.UPSTREAM_REFUSED)
    assert failure.detail.startswith("answered 550 <cyd@x.example>: no")
    assert signature(Reply(550, "", "go away")) != signature(Reply(550, "", "come back"))


def test_what_is_known_of_a_recipient_stays_when_the_rest_is_held() -> None:
    state = Breaker()
    for who in "abc":
        state, found = judge(
            state, verdict(["550 user unknown", "550 hm"]), sender=who, message=who
        )
    assert [m.result for m in found.meanings] == [Result.FAILED, Result.HELD]


def test_a_first_unknown_5xx_to_mail_costs_nobody_anything_even_before_it_trips() -> None:
    state, results = Breaker(), []
    for who in "abcd":
        refusal = verdict(["503 mail first"], attempts=0, mail="550 hm")
        state, found = judge(state, refusal, sender=who, message=who)
        results.append(found.meanings[0].result)
    assert results == [Result.DEFERRED, Result.DEFERRED, Result.HELD, Result.HELD]


def test_poison_is_deferred_and_holds_nobody() -> None:
    state, results = Breaker(), []
    for _ in range(4):
        state, found = judge(state, verdict(["550 relaying denied"]), sender="a", message="1")
        results.append((found.meanings[0].result, found.failure is not None))
    held, charged = (Result.HELD, True), (Result.DEFERRED, False)
    assert results == [held, held, charged, charged]
    assert found.effect is None


def test_a_relay_without_trouble_keeps_no_state() -> None:
    delivered = Verdict(passed=Stage.END_OF_MESSAGE)
    state = Breaker()
    for sender in "abcdefgh":
        state, same = judge(state, delivered, sender=sender, message="1")
        assert same is delivered
    before = state
    state, _ = judge(state, delivered, sender="z", message="1")
    assert state is before


# --- properties

STAGES = st.sampled_from([Stage.MAIL, Stage.RCPT, Stage.DATA, Stage.END_OF_MESSAGE])
NAMES = st.integers(0, 5).map(str)
EVENTS = st.one_of(
    st.builds(Passed, stage=STAGES, sender=NAMES),
    st.builds(
        Refused,
        stage=STAGES,
        signature=st.integers(0, 3).map(str),
        sender=NAMES,
        message=st.integers(0, 30).map(str),
        sure=st.booleans(),
    ),
)


@given(st.lists(EVENTS, max_size=60))
def test_memory_is_bounded_and_a_success_never_holds(events: list[Event]) -> None:
    """Invariant: nothing grows beyond its bound, and after a success at the final dot nothing is
    under suspicion.
    """
    state = Breaker()
    for event in events:
        state, decision = step(state, event)
        assert len(state.suspicions) <= MAX_SUSPICIONS
        assert len(state.row) <= MAX_ROW
        assert len(state.messages) <= MAX_CULPRITS
        assert len(state.senders) <= MAX_CULPRITS
        assert len(state.seen) <= SENDERS
        assert all(len(s.refused) <= MESSAGES_OF_ANYONE for s in state.suspicions.values())
        if isinstance(event, Passed):
            assert decision is PASS
            if event.stage is Stage.END_OF_MESSAGE:
                assert state.quiet


def test_memory_is_bounded_in_the_long_run() -> None:
    state = Breaker()
    for number in range(5000):
        state, _ = step(
            state,
            Refused(
                stage=Stage.RCPT,
                signature=str(number),
                sender=str(number),
                message=str(number),
                sure=bool(number % 2),
            ),
        )
        if number % 100 == 0:
            state, _ = step(state, passed("z"))
    assert len(state.suspicions) <= MAX_SUSPICIONS
    assert len(state.row) <= MAX_ROW
    assert len(state.messages) <= MAX_CULPRITS
    assert len(state.senders) <= MAX_CULPRITS


@given(st.lists(st.sampled_from(["a1", "+a", "+b", "+c"]), max_size=40))
def test_one_poisonous_message_holds_at_most_twice(events: list[str]) -> None:
    """Invariant: whatever the others do, a message that alone is refused causes two holds."""
    assert decisions(*events, sure=True).count(HOLD) <= HOLDS_OF_A_MESSAGE


@given(st.lists(st.integers(0, 9), max_size=40))
def test_one_sender_of_poison_holds_a_bounded_number_of_times(messages: list[int]) -> None:
    """Invariant: while others get through, a sender's refused messages cause three holds."""
    events = [word for number in messages for word in (f"a{number}", "+b")]
    assert decisions(*events, sure=True).count(HOLD) <= HOLDS_OF_A_SENDER


@given(st.lists(st.sampled_from(["a1", "a2", "b1", "b2", "c1"]), min_size=1, max_size=40))
def test_an_upstream_that_refuses_everybody_charges_nobody_once_two_were_refused(
    events: list[str],
) -> None:
    """Invariant: after two senders were refused in a row, no message is charged."""
    found = decisions(*events, sure=True)
    for number, decision in enumerate(found):
        if len({event[0] for event in events[: number + 1]}) > 1:
            assert decision is HOLD
