"""The code of docs/connect-your-app.md for clients that `make clients` installs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.clients.conftest import Place
from tests.clients.programs import INSTALLED_ONLY
from tests.clients.proving import FAILURES, prove_failure, prove_message


@pytest.mark.parametrize("client", INSTALLED_ONLY)
def test_the_code_delivers_a_message(client: str, place: Place, tmp_path: Path) -> None:
    prove_message(client, INSTALLED_ONLY[client], place, tmp_path)


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("client", INSTALLED_ONLY)
def test_a_failure_looks_as_the_page_says(
    client: str, failure: str, place: Place, tmp_path: Path
) -> None:
    prove_failure(client, failure, INSTALLED_ONLY[client], place, tmp_path)
