"""Behind a real gateway process, servers that others wrote: Debian's Postfix, greylisting, and
stock aiosmtpd. Every body is whole at every recipient.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from collections import Counter
from pathlib import Path

import pytest
from aiosmtpd.smtp import SMTP, Envelope, Session

from mailrelay_gateway.contract.documents import HostPort, TlsMode, Upstream
from tests.integration.everyday.account import (
    duplicates,
    expected,
    mails,
    nothing_left,
    until_empty,
    whole,
)
from tests.integration.everyday.scale import figures, scale
from tests.models import made
from tests.peers.gateway import (
    GatewayProcess,
    certificate,
    plain_listener,
    relay,
    smarthost,
)
from tests.peers.postfix import Greylist, Postfix
from tests.peers.wholemail import name_of, submit
from tests.ports import free_port
from tests.waiting import until

pytestmark = pytest.mark.timeout(scale(300, 600))
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can run Postfix's master")
#: Postfix hangs up after 20 errors, and takes a second for each from the 11th on.
STOCK_ERRORS: dict[str, str] = {}
ANY_ERRORS = {"smtpd_soft_error_limit": "1000", "smtpd_hard_error_limit": "1000"}
MODES = [TlsMode.START_TLS, TlsMode.IMPLICIT]


def over_tls(port: int, mode: TlsMode) -> Upstream:
    """A smarthost on loopback with the tests' certificate."""
    tls = made.upstream_tls(mode=mode, ca=certificate().chain, server_name="localhost")
    hosts = (HostPort(host="127.0.0.1", port=port),)
    return made.upstream(name="sink", connections=10, settings=made.smarthost(hosts=hosts, tls=tls))


@as_root
@pytest.mark.parametrize("errors", scale([STOCK_ERRORS], [STOCK_ERRORS, ANY_ERRORS]))
async def test_many_recipients_greylisted_at_postfix(
    gateway: GatewayProcess, open_folder: Path, errors: dict[str, str]
) -> None:
    messages = mails(scale(2, 20), scale(4, 45), octets=20_000)
    wanted = len(expected(messages))
    greylist = Greylist(scale(1.0, 5.0))
    await greylist.start()
    service = f"check_policy_service inet:127.0.0.1:{greylist.port}"
    postfix = Postfix(open_folder, {"smtpd_recipient_restrictions": service, **errors})
    await postfix.start()
    try:
        port = free_port()
        gateway.write(relay([plain_listener(port)], [smarthost("postfix", postfix.port)]))
        await gateway.start()
        began = time.monotonic()
        await submit(port, messages)
        await until(lambda: postfix.arrived() >= wanted, seconds=300)
        took = time.monotonic() - began
        await until_empty(gateway)
        delivered, damaged = postfix.account()
        whole(messages, delivered, damaged)
        assert duplicates(delivered) == 0
        figures.append(
            f"{wanted} recipients greylisted at Postfix ({len(messages)} messages; {errors}):"
            f" all whole after {took:.1f} s; RCPT deferred {greylist.deferred},"
            f" passed {greylist.passed};"
            f" {postfix.queue_files()} transactions taken,"
            f" {postfix.queue_files() / len(messages):.2f} for each message;"
            f" {len(gateway.log_lines('upstream_held'))} holds"
        )
        assert greylist.deferred >= wanted
        assert gateway.log_lines("upstream_held") == []
        await nothing_left(gateway)
    finally:
        await postfix.stop()
        await greylist.stop()


@as_root
@pytest.mark.parametrize("mode", MODES)
async def test_large_messages_over_tls_to_postfix(
    gateway: GatewayProcess, open_folder: Path, mode: TlsMode
) -> None:
    messages = mails(scale(2, 100), octets=5_000_000)
    postfix = Postfix(open_folder)
    await postfix.start()
    try:
        port = free_port()
        there = postfix.port if mode is TlsMode.START_TLS else postfix.tls_port
        gateway.write(relay([plain_listener(port)], [over_tls(there, mode)]))
        await gateway.start()
        began = time.monotonic()
        await submit(port, messages)
        await until(lambda: postfix.arrived() >= len(messages), seconds=400)
        took = time.monotonic() - began
        await until_empty(gateway)
        delivered, damaged = postfix.account()
        whole(messages, delivered, damaged)
        assert duplicates(delivered) == 0
        figures.append(
            f"{len(messages)} x 5 MB, {mode.name}, to Postfix: all whole after {took:.1f} s"
        )
        await nothing_left(gateway)
    finally:
        await postfix.stop()


class Kept:
    """A handler of aiosmtpd's that keeps an account."""

    def __init__(self) -> None:
        self.taken: Counter[tuple[str, str]] = Counter()
        self.damaged: list[str] = []

    async def handle_DATA(  # noqa: N802 (aiosmtpd names it so)
        self, _server: SMTP, _session: Session, envelope: Envelope
    ) -> str:
        assert isinstance(envelope.content, bytes)
        name, intact = name_of(envelope.content)
        self.taken.update((name, recipient) for recipient in envelope.rcpt_tos)
        if not intact:
            self.damaged.append(name)
        return "250 2.0.0 stored"


@pytest.mark.parametrize("mode", MODES)
async def test_large_messages_over_tls_to_aiosmtpd(
    gateway: GatewayProcess, tmp_path: Path, mode: TlsMode
) -> None:
    messages = mails(scale(2, 100), octets=5_000_000)
    pem = tmp_path / "server.pem"
    pem.write_text(certificate().key + certificate().chain)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pem)
    kept = Kept()
    starttls = context if mode is TlsMode.START_TLS else None
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: SMTP(kept, hostname="aiosmtpd.example", loop=loop, tls_context=starttls),
        "127.0.0.1",
        0,
        ssl=context if mode is TlsMode.IMPLICIT else None,
    )
    try:
        port = free_port()
        there = server.sockets[0].getsockname()[1]
        gateway.write(relay([plain_listener(port)], [over_tls(there, mode)]))
        await gateway.start()
        began = time.monotonic()
        await submit(port, messages)
        await until(lambda: len(kept.taken) >= len(messages), seconds=400)
        took = time.monotonic() - began
        await until_empty(gateway)
        whole(messages, kept.taken, kept.damaged)
        figures.append(
            f"{len(messages)} x 5 MB, {mode.name}, to stock aiosmtpd: all whole after"
            f" {took:.1f} s, {duplicates(kept.taken)} twice"
        )
        await nothing_left(gateway)
    finally:
        server.close()
