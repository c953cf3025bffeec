"""Conditions: all of them are always there, and a time moves only when a status flips."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from mailrelay_gateway.contract.moments import rfc3339
from mailrelay_operator.api.conditions import (
    CONDITION_TYPES,
    EPOCH,
    MAX_MESSAGE_LENGTH,
    Verdict,
    find_condition,
    initial_conditions,
    set_conditions,
)
from mailrelay_operator.api.reasons import Reason

NOON = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
LATER = NOON + timedelta(minutes=5)
YES = Verdict(status="True", reason=Reason.ACCEPTED, message="Fine.")
NO = Verdict(status="False", reason=Reason.INVALID, message="Not fine.")


@pytest.mark.parametrize("kind", CONDITION_TYPES)
def test_in_the_beginning_everything_waits(kind: str) -> None:
    for condition in initial_conditions(kind):
        assert (condition.status, condition.reason) == ("Unknown", "Pending")
        assert condition.message == "Waiting for controller"
        assert condition.last_transition_time == EPOCH


def test_all_conditions_of_the_kind_are_written_in_order() -> None:
    after = set_conditions("MailRelay", (), {"Ready": NO}, generation=2, now=NOON)
    assert [condition.type for condition in after] == list(CONDITION_TYPES["MailRelay"])
    assert [condition.reason for condition in after][:5] == ["Pending"] * 5


def test_a_verdict_says_when_and_of_which_generation() -> None:
    after = set_conditions("MailRelay", (), {"Accepted": YES}, generation=2, now=NOON)
    accepted = find_condition(after, "Accepted")
    assert accepted is not None
    assert accepted.model_dump(by_alias=True) == {
        "type": "Accepted",
        "status": "True",
        "reason": "Accepted",
        "message": "Fine.",
        "lastTransitionTime": "2026-03-01T12:00:00Z",
        "observedGeneration": 2,
    }


def test_the_time_stays_while_the_status_does() -> None:
    before = set_conditions("MailRelay", (), {"Accepted": NO}, generation=1, now=NOON)
    other = Verdict(status="False", reason=Reason.UNSUPPORTED, message="Else.")
    after = set_conditions("MailRelay", before, {"Accepted": other}, generation=2, now=LATER)
    accepted = after[0]
    assert (accepted.reason, accepted.observed_generation) == ("Unsupported", 2)
    assert accepted.last_transition_time == rfc3339(NOON)


def test_the_time_moves_when_the_status_flips() -> None:
    before = set_conditions("MailRelay", (), {"Accepted": NO}, generation=1, now=NOON)
    after = set_conditions("MailRelay", before, {"Accepted": YES}, generation=1, now=LATER)
    assert after[0].last_transition_time == rfc3339(LATER)


def test_setting_the_same_again_changes_nothing() -> None:
    before = set_conditions("MailSender", (), {"Accepted": YES}, generation=1, now=NOON)
    after = set_conditions("MailSender", before, {"Accepted": YES}, generation=1, now=LATER)
    assert after == before


def test_what_has_no_verdict_stays_with_the_generation_it_spoke_of() -> None:
    before = set_conditions("MailRelay", (), {"Ready": YES}, generation=1, now=NOON)
    after = set_conditions("MailRelay", before, {"Accepted": NO}, generation=2, now=LATER)
    assert find_condition(after, "Ready") == find_condition(before, "Ready")


def test_a_type_that_the_kind_lacks_is_an_error_of_ours() -> None:
    with pytest.raises(KeyError, match="MailSender has no condition Durable"):
        set_conditions("MailSender", (), {"Durable": YES}, generation=1, now=NOON)


def test_a_long_message_is_cut() -> None:
    long = Verdict(status="False", reason=Reason.INVALID, message="x" * 10_000)
    after = set_conditions("MailSender", (), {"Accepted": long}, generation=1, now=NOON)
    assert len(after[0].message) == MAX_MESSAGE_LENGTH
    assert after[0].message.endswith("…")


def test_times_are_in_utc() -> None:
    berlin = datetime(2026, 3, 1, 13, 0, 0, 999, tzinfo=timezone(timedelta(hours=1)))
    assert rfc3339(berlin) == "2026-03-01T12:00:00Z"


def test_every_reason_stands_on_conditions_that_exist_and_says_a_sentence() -> None:
    types = {type_ for types in CONDITION_TYPES.values() for type_ in types}
    for reason in Reason:
        assert set(reason.conditions) <= types, reason
        assert reason.sentence.endswith("."), reason
        assert reason.value.isalnum()
        assert reason.value[0].isupper()
