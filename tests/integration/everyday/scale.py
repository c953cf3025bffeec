"""How large the everyday runs are: short in `make test`, long in `make everyday`; and their
figures.
"""

from __future__ import annotations

import os
from typing import TypeVar

T = TypeVar("T")

#: Set by `make everyday`.
LONG = os.environ.get("EVERYDAY") == "long"

#: One line for each run, shown at the end of a long one.
figures: list[str] = []


def scale(short: T, long: T) -> T:
    """Which of the two this run takes."""
    return long if LONG else short
