"""What is asked of each client: its code delivers, and its failures look as the page says."""

from __future__ import annotations

from pathlib import Path

from tests.clients.conftest import Place
from tests.clients.page import code_of, failures_of
from tests.clients.programs import Run

FAILURES = ("CA not trusted", "another host name", "wrong password", "sender not allowed")


def prove_message(client: str, run: Run, place: Place, folder: Path) -> None:
    """The code delivers one message."""
    before = place.count()
    said = run(code_of(client), folder, place.environment())
    place.await_more(before, said)


def prove_failure(client: str, failure: str, run: Run, place: Place, folder: Path) -> None:
    """The client says what the page's table has for it; nothing is delivered."""
    pieces = failures_of(client)[failure]
    before = place.count()
    said = run(code_of(client), folder, place.failing(failure))
    missing = [piece for piece in pieces if piece not in said]
    assert missing == [], said
    if pieces:
        assert place.count() == before
    else:  # the page says that this client does not look
        place.await_more(before, said)
