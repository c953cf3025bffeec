"""Queue ids: 26 characters, ordered by time, unique across replicas.

Pure: time and random bits are arguments.
"""

from __future__ import annotations

from functools import lru_cache

#: Crockford's base 32: no I, L, O, U, so that an id can be read out over the telephone.
ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

_P = [first + second for first in ALPHABET for second in ALPHABET]
_TIME_BITS = (1 << 50) - 1


def queue_id(now: float, random_bits: int) -> str:
    """The id for Unix time `now` (seconds) and 80 random bits: 48 bits of milliseconds first, as
    in ULID.
    """
    # In halves of four pairs each: arithmetic with 128 bits costs three times as much.
    high, low = random_bits >> 40, random_bits & 0xFF_FFFF_FFFF
    return (
        f"{_time(int(now * 1000) & _TIME_BITS)}"
        f"{_P[high >> 30 & 1023]}{_P[high >> 20 & 1023]}{_P[high >> 10 & 1023]}{_P[high & 1023]}"
        f"{_P[low >> 30]}{_P[low >> 20 & 1023]}{_P[low >> 10 & 1023]}{_P[low & 1023]}"
    )


@lru_cache(maxsize=2)
def _time(milliseconds: int) -> str:
    """The first ten characters; many messages share a millisecond, or almost."""
    return "".join([_P[milliseconds >> shift & 1023] for shift in range(40, -1, -10)])
