"""Queue ids: 26 characters, ordered by time, unique over replicas.

Pure: time and random bits are arguments.
"""

from __future__ import annotations

#: Crockford's base 32: no I, L, O, U, so that an id survives being read out on the telephone.
ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

_PAIRS = [first + second for first in ALPHABET for second in ALPHABET]


def queue_id(now: float, random_bits: int) -> str:
    """The id for Unix time `now` (seconds) and 80 random bits: 48 bits of milliseconds first, as
    in ULID.
    """
    number = (int(now * 1000) << 80 | random_bits & ((1 << 80) - 1)) & ((1 << 130) - 1)
    return "".join([_PAIRS[number >> shift & 1023] for shift in range(120, -1, -10)])
