"""The fixtures that aiosmtpd's own tests ask for, with our listeners behind them, and which of the
tests are run.
"""

from __future__ import annotations

import smtplib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.testing.helpers import ReceivingHandler

from mailrelay_gateway.contract.documents import Listener
from tests.integration.aiosmtpd_dialogs.controller import (
    IMPLICIT,
    LOGIN,
    LOGIN_AFTER_STARTTLS,
    MAX_SIZE,
    OPEN,
    STARTTLS,
    Client,
    Controller,
    connect,
)
from tests.integration.aiosmtpd_dialogs.theirs import PeekerHandler
from tests.integration.aiosmtpd_dialogs.verdicts import Kind, Verdict, read

VERDICTS = read()


class AnotherCode(Exception):
    """A reply differs as expected, but with a code that is not the verdict's. No AssertionError:
    the failure is expected only of the test itself.
    """


#: How a test says that a reply is another.
DIFFERS = (AssertionError, smtplib.SMTPException, pytest.fail.Exception)
#: The classes whose tests log in.
WITH_LOGIN = ("TestSMTPAuth", "TestAuthMechanisms", "TestRequiredAuthentication")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Run what is the same, and what is known to differ, as such; with --collect-only show all."""
    if config.option.collectonly:
        return
    kept, left = [], []
    for item in items:
        verdict = _verdict(item)
        if item.path.parent != Path(__file__).parent or verdict is None:
            kept.append(item)
        elif verdict.kind is Kind.NOT_APPLICABLE:
            left.append(item)
        else:
            if verdict.kind is Kind.DIFFERENT:
                item.add_marker(
                    pytest.mark.xfail(reason=verdict.reason, raises=DIFFERS, strict=True)
                )
            kept.append(item)
    config.hook.pytest_deselected(items=left)
    items[:] = kept


def _controller(listener: Listener | None = None) -> Any:
    """A fixture: a server with that listener, or with the one that its test's class needs."""

    @pytest.fixture
    def begun(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Controller]:
        cls = request.cls.__name__
        settings, handler = (
            request.node.get_closest_marker(f"{x}_data") for x in ("controller", "handler")
        )
        limit = settings.kwargs.get("data_size_limit") if settings else None
        controller = Controller(
            tmp_path,
            listener or (LOGIN if cls in WITH_LOGIN else OPEN),
            (handler.kwargs["class_"] if handler else ReceivingHandler)(),
            max_size=limit or MAX_SIZE,
        )
        controller.start()
        yield controller
        controller.stop()

    return begun


plain_controller = _controller()
decoding_authnotls_controller = _controller()
ssl_controller = _controller(IMPLICIT)
tls_controller = _controller(STARTTLS)
tls_req_controller = _controller(STARTTLS)
auth_req_tls_controller = _controller(LOGIN_AFTER_STARTTLS)


@pytest.fixture
def auth_peeker_controller(plain_controller: Controller) -> Controller:
    """What their handler would have seen: our configuration knows no other name and password."""
    handler = PeekerHandler()
    handler.login, handler.password = b"goodlogin", b"goodpasswd"
    plain_controller.handler = handler
    return plain_controller


def _verdict(item: pytest.Item) -> Verdict | None:
    return VERDICTS.get(item.nodeid.partition("::")[2])


@pytest.fixture
def client(request: pytest.FixtureRequest) -> Iterator[Client]:
    name = next(each for each in request.fixturenames if each.endswith("_controller"))
    made = connect(request.getfixturevalue(name).listener)
    yield made
    made.close()
    verdict = _verdict(request.node)
    # Where a message was refused, smtplib sends RSET too.
    last = made.codes[-2:]
    if verdict is not None and verdict.kind is Kind.DIFFERENT and verdict.code not in last:
        raise AnotherCode(f"Expected {verdict.code} of the gateway, not {last}")


@pytest.fixture
def smtps_client(client: Client) -> Client:
    return client
