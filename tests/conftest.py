"""What a test leaves behind (an open socket, a task, a child) is held against it, and not against
the test during which it happens to be collected. And no example of hypothesis is held to a time:
how long one takes says how busy the machine is.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("house", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("house")


def pytest_collection_finish() -> None:
    """Look no more at what is there before the first test: it makes a collection ten times
    quicker.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def collected() -> Iterator[None]:
    """Warnings about what a module's tests left are errors at its end. After each test it would
    take too long.
    """
    yield
    gc.collect()


@pytest.fixture(autouse=True)
def collected_after_failure() -> Iterator[None]:
    """A failed test's frames, and what they hold, live on in its traceback: let go of them while
    its own end is not over.
    """
    yield
    if hasattr(sys, "last_traceback"):  # pytest sets it when a test fails, for debuggers
        del sys.last_type, sys.last_value, sys.last_traceback
        gc.collect()
