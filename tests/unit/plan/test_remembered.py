"""What the operator remembers in its Secrets."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mailrelay_operator.plan.remembered import (
    RememberedRelay,
    RememberedSender,
    decode_relay,
    decode_senders,
    encode_relay,
    encode_senders,
)

RELAY = RememberedRelay(uid="1", generation=3, spec={"hostname": "relay.example.com"})
SENDER = RememberedSender(uid="2", generation=4, spec={"from": ["é@x"]}, current="a", previous="b")


def test_what_was_written_is_read_again() -> None:
    assert decode_relay(encode_relay(RELAY)) == RELAY
    assert decode_senders(encode_senders([SENDER])) == {"2": SENDER}


def test_equal_values_give_equal_octets() -> None:
    assert encode_relay(RELAY) == encode_relay(RELAY)


@given(st.binary(max_size=200))
def test_anything_else_is_forgotten(octets: bytes) -> None:
    """No octets at all make the operator fail: what cannot be read is as if it were not there."""
    assert decode_relay(octets) is None
    assert decode_senders(octets) == {}


def test_one_bad_entry_does_not_take_the_others_along() -> None:
    assert decode_relay(encode_senders([SENDER])) is None
    assert decode_senders(encode_relay(RELAY)) == {}
    assert decode_senders(None) == {}
