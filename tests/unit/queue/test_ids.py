"""Queue ids: what they are made of, and that they are ordered by time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mailrelay_gateway.queue.ids import ALPHABET, queue_id

MOMENTS = st.floats(min_value=0, max_value=2**40, allow_nan=False)
BITS = st.integers(min_value=0, max_value=2**80 - 1)


def value_of(made: str) -> int:
    value = 0
    for character in made:
        value = value * 32 + ALPHABET.index(character)
    return value


@given(now=MOMENTS, bits=BITS)
def test_an_id_is_milliseconds_and_then_80_bits_in_base_32(now: float, bits: int) -> None:
    made = queue_id(now, bits)
    assert len(made) == 26
    assert value_of(made) == int(now * 1000) << 80 | bits


@given(now=MOMENTS, first=BITS, later=st.integers(min_value=1, max_value=10**9), second=BITS)
def test_ids_are_ordered_by_time(now: float, first: int, later: int, second: int) -> None:
    assert queue_id(now, first) < queue_id(now + later, second)
