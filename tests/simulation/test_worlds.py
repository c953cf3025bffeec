"""The gateway's parts live through random days, and no mail is lost, doubled, mangled or forgotten.

Each seed is one life. `pytest tests/simulation --seed N` repeats one, `-k queue` one world's;
`make simulate ARGS="--seeds 10000"` runs many.
"""

from __future__ import annotations

from tests.simulation.worlds import live


def test_every_recipient_ends_once(world: str, seed: int) -> None:
    """Invariant: each recipient answered 250 ends once, delivered or as a dead letter, twice only
    if it was uncertain; every body is whole; and nothing READY or LEASED is forgotten.
    """
    live(world, seed)
