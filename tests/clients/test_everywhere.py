"""The code of docs/connect-your-app.md for clients that every machine of ours has, as it stands
there.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.clients.conftest import Place
from tests.clients.page import clients
from tests.clients.programs import EVERYWHERE, INSTALLED_ONLY
from tests.clients.proving import FAILURES, prove_failure, prove_message


def test_the_table_of_failures_has_every_client_that_is_tried() -> None:
    assert set(clients()) == {*EVERYWHERE, *INSTALLED_ONLY}


@pytest.mark.parametrize("client", EVERYWHERE)
def test_the_code_delivers_a_message(client: str, place: Place, tmp_path: Path) -> None:
    prove_message(client, EVERYWHERE[client], place, tmp_path)


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("client", EVERYWHERE)
def test_a_failure_looks_as_the_page_says(
    client: str, failure: str, place: Place, tmp_path: Path
) -> None:
    prove_failure(client, failure, EVERYWHERE[client], place, tmp_path)
