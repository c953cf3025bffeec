"""Against Postfix's smtp-sink, faults included: a server that we did not write."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from mailrelay_gateway.couriers.smtp.deadlines import Deadlines
from mailrelay_gateway.message.envelope import Result
from mailrelay_gateway.reasons import Reason
from tests.integration.couriers.conftest import Rig
from tests.integration.couriers.memory_work import attempt
from tests.peers.smtp_sink import smtp_sink

OK = (Result.DELIVERED, Reason.DELIVERED)

StartSink = Callable[..., int]


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[StartSink]:
    """Starts smtp-sink with the given options; gives its port. Dumps are written to `tmp_path`."""
    with ExitStack() as stack:

        def start(*options: str) -> int:
            return stack.enter_context(smtp_sink(*options, folder=tmp_path))

        yield start


async def test_many_messages_over_several_connections(rig: Rig, sink: StartSink) -> None:
    port = sink()
    rig.run(rig.config(port, connections=4, messages=50))
    rig.work.add(*(attempt(number) for number in range(500)))
    await rig.work.until_finished(500)
    assert rig.work.results == [OK] * 500


async def test_what_the_sink_wrote_is_what_was_sent(
    rig: Rig, sink: StartSink, tmp_path: Path
) -> None:
    port = sink("-D", "dump")
    body = b"Subject: dots\r\n\r\n.\r\n..\r\n.x\r\nlast\r\n"
    rig.run(rig.config(port))
    rig.work.add(attempt(1, body=body, recipients=["one@example.net", "two@example.net"]))
    await rig.work.until_finished(1)
    dump = (tmp_path / "dump").read_bytes()
    assert b"X-Mail-Args: <app@example.com>" in dump
    assert b"X-Rcpt-Args: <two@example.net>" in dump
    assert dump.replace(b"\r\n", b"\n").endswith(body.replace(b"\r\n", b"\n") + b"\n")


async def test_a_large_file_without_pipelining(rig: Rig, sink: StartSink, tmp_path: Path) -> None:
    port = sink("-p", "-D", "dump")
    path = tmp_path / "body"
    path.write_bytes(b"Subject: large\r\n\r\n" + b"".join(b".%06d\r\n" % n for n in range(100_000)))
    rig.run(rig.config(port))
    rig.work.add(attempt(1, body=path), attempt(2))
    await rig.work.until_finished(2)
    assert rig.work.results == [OK] * 2
    assert path.read_bytes().replace(b"\r\n", b"\n") in (tmp_path / "dump").read_bytes()


async def test_an_answer_before_the_body_was_read_ends_the_connection(
    rig: Rig, sink: StartSink
) -> None:
    rig.run(rig.config(sink("-A", "0", "-B", "550 5.7.1 no")))
    body = b"Subject: x\r\n\r\n" + b"y" * 76 + b"\r\n"
    body += (b"y" * 76 + b"\r\n") * 100_000
    rig.work.add(attempt(1, body=body), attempt(2, body=body))
    await rig.work.until_finished(2)
    # The reset that follows the reply may overtake it; but never can the message have arrived.
    assert {result for result, _ in rig.work.results} <= {Result.FAILED, Result.DEFERRED}


async def test_no_esmtp(rig: Rig, sink: StartSink) -> None:
    rig.run(rig.config(sink("-e")))
    rig.work.add(attempt(1), attempt(2))
    await rig.work.until_finished(2)
    assert rig.work.results == [OK] * 2


@pytest.mark.parametrize(
    ("options", "result", "reason"),
    [
        (["-f", "MAIL"], Result.HELD, Reason.UPSTREAM_REFUSED),  # 500 5.3.0: its own trouble
        (["-f", "RCPT", "-B", "550 5.1.1 nobody"], Result.FAILED, Reason.UPSTREAM_REJECTED),
        (["-f", "DATA", "-B", "554 5.7.1 no"], Result.FAILED, Reason.UPSTREAM_REJECTED),
        (["-f", ".", "-B", "554 5.7.1 spam"], Result.FAILED, Reason.UPSTREAM_REJECTED),
        (["-r", "MAIL"], Result.DEFERRED, Reason.UPSTREAM_DEFERRED),
        (["-r", "RCPT"], Result.DEFERRED, Reason.UPSTREAM_DEFERRED),
        (["-r", "DATA"], Result.DEFERRED, Reason.UPSTREAM_DEFERRED),
        (["-r", "."], Result.DEFERRED, Reason.UPSTREAM_DEFERRED),
        (["-q", "MAIL"], Result.DEFERRED, Reason.CONNECTION_LOST),
        (["-q", "RCPT"], Result.DEFERRED, Reason.CONNECTION_LOST),
        (["-q", "DATA"], Result.DEFERRED, Reason.CONNECTION_LOST),
        (["-q", "."], Result.UNCERTAIN, Reason.REPLY_LOST),
        (["-Q", "MAIL"], Result.DEFERRED, Reason.UPSTREAM_DEFERRED),
        (["-Q", "RCPT"], Result.DEFERRED, Reason.UPSTREAM_DEFERRED),
        (["-Q", "."], Result.DEFERRED, Reason.UPSTREAM_DEFERRED),
    ],
)
async def test_faults_from_mail_on(
    rig: Rig, sink: StartSink, options: list[str], result: Result, reason: Reason
) -> None:
    rig.run(rig.config(sink(*options)))
    rig.work.add(attempt(1), attempt(2))
    await rig.work.until_finished(2)
    assert rig.work.results == [(result, reason)] * 2
    assert bool(rig.work.holds) == (result is Result.HELD)


@pytest.mark.parametrize(
    "options", [["-f", "CONNECT"], ["-r", "EHLO"], ["-q", "CONNECT"], ["-Q", "EHLO"]]
)
async def test_faults_before_mail_concern_the_upstream(
    rig: Rig, sink: StartSink, options: list[str]
) -> None:
    rig.run(rig.config(sink(*options)), deadlines=Deadlines(quit=0.1))
    rig.work.add(attempt(1))
    await rig.work.until(lambda: len(rig.work.holds) == 2)
    assert {reason for reason, _ in rig.work.holds} == {Reason.UPSTREAM_REFUSED}
    assert rig.work.finished == []
