"""What the operator remembers in its Secrets."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mailrelay_operator.plan.remembered import (
    RememberedRelay,
    decode_relay,
    encode_relay,
)

RELAY = RememberedRelay(
    uid="1", generation=3, spec={"hostname": "é.example"}, authorities={"submission": "PEM"}
)


def test_what_was_written_is_read_again() -> None:
    assert decode_relay(encode_relay(RELAY)) == RELAY


def test_equal_values_give_equal_octets() -> None:
    assert encode_relay(RELAY) == encode_relay(RELAY)


@given(st.binary(max_size=200))
def test_anything_else_is_forgotten(octets: bytes) -> None:
    """No octets at all make the operator fail: what cannot be read is as if it were not there."""
    assert decode_relay(octets) is None
