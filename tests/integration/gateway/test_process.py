"""The gateway as a process: what it says when it cannot start, how it reloads, drains and
answers its admin port.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import shutil
import signal
import smtplib
import socket
import sys
from pathlib import Path

import pytest

from mailrelay_gateway.contract.documents import TlsMode
from mailrelay_gateway.contract.files import FILE_NAME, encode_files, file_digest
from tests.models import made
from tests.peers.client import MESSAGE, send_logged_in, send_plain
from tests.peers.gateway import (
    PASSWORD,
    GatewayProcess,
    plain_listener,
    relay,
    sandbox,
    sender,
    smarthost,
    tls_listener,
    trusting,
)
from tests.peers.halfdead import HalfDeadServer
from tests.ports import free_port
from tests.waiting import PATIENCE, until


async def captured(gateway: GatewayProcess) -> list[dict[str, object]]:
    """The sandbox's list."""
    code, body = await gateway.get("/sandbox/messages")
    assert code == 200
    messages: list[dict[str, object]] = json.loads(body)["messages"]
    return messages


# --- it works


async def test_a_message_over_starttls_and_login_is_captured_byte_for_byte(
    gateway: GatewayProcess,
) -> None:
    port = free_port()
    gateway.write(relay([tls_listener(port)], [sandbox()]), [sender()])
    await gateway.start()
    answer = await send_logged_in(port)
    await until(lambda: _has(gateway, 1))
    (message,) = await captured(gateway)
    assert str(message["queue_id"]) in answer
    assert (message["from"], message["to"]) == ("app@example.com", ["someone@example.net"])
    _, raw = await gateway.get(f"/sandbox/messages/{message['id']}/raw")
    trace, found, rest = raw.partition(b"From: app@example.com\r\n")
    assert found + rest == MESSAGE
    assert trace.startswith(b"Received: from ")
    assert await gateway.metric("mailrelay_received_messages_total", listener="submission") == 1
    assert await gateway.stop() == 0


async def _has(gateway: GatewayProcess, count: int) -> bool:
    return len(await captured(gateway)) == count


async def test_implicit_tls_offers_and_takes_a_login(gateway: GatewayProcess) -> None:
    port = free_port()
    gateway.write(relay([tls_listener(port, TlsMode.IMPLICIT)], [sandbox()]), [sender()])
    await gateway.start()

    def send() -> None:
        with smtplib.SMTP_SSL("localhost", port, context=trusting(), timeout=10) as client:
            client.login("team-a.app", PASSWORD)
            client.sendmail("app@example.com", ["someone@example.net"], MESSAGE)

    await asyncio.to_thread(send)
    await until(lambda: _has(gateway, 1))


async def test_a_large_message_goes_through_a_file_and_arrives_whole(
    gateway: GatewayProcess,
) -> None:
    port = free_port()
    gateway.write(relay([plain_listener(port)], [sandbox()]))
    await gateway.start()
    body = MESSAGE + b"".join(b"%07d %s\r\n" % (n, b"x" * 60) for n in range(30_000))
    await send_plain(port, body)
    await until(lambda: _has(gateway, 1))
    (message,) = await captured(gateway)
    _, raw = await gateway.get(f"/sandbox/messages/{message['id']}/raw")
    assert raw.endswith(body)
    await until(lambda: _is_empty(gateway.spool / "bodies"))


async def _is_empty(folder: Path) -> bool:
    return not list(folder.iterdir())


# --- it cannot start


async def run_to_end(gateway: GatewayProcess) -> tuple[int, str]:
    """Start a gateway that is to end by itself: its exit code and what it says."""
    await gateway.start(wait=False)
    assert gateway.process is not None
    async with asyncio.timeout(PATIENCE):
        code = await gateway.process.wait()
    return code, await gateway.stderr()


async def test_a_port_in_use_is_said_with_the_listener(gateway: GatewayProcess) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        gateway.write(relay([plain_listener(port)], [sandbox()]))
        code, said = await run_to_end(gateway)
    assert code == 3
    assert f"Listener plain cannot listen on 127.0.0.1:{port}: another program uses" in said


async def test_an_admin_address_in_use_is_said(gateway: GatewayProcess) -> None:
    gateway.write(relay([plain_listener(free_port())], [sandbox()]))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", gateway.admin_port))
        taken.listen()
        code, said = await run_to_end(gateway)
    assert code == 3
    assert "--admin" in said


async def test_a_spool_in_use_is_refused(gateway: GatewayProcess, tmp_path: Path) -> None:
    gateway.write(relay([plain_listener(free_port())], [sandbox()]))
    await gateway.start()
    second = GatewayProcess(tmp_path)
    code, said = await run_to_end(second)
    assert code == 4
    assert "is in use by another gateway" in said
    assert (await gateway.get("/readyz"))[0] == 200


async def test_a_spool_that_is_no_database_is_put_apart_and_mail_flows(
    gateway: GatewayProcess,
) -> None:
    gateway.write(relay([plain_listener(free_port())], [sandbox()]))
    gateway.spool.mkdir()
    (gateway.spool / "queue2.db").write_bytes(b"this is somebody's file" * 1000)
    await gateway.start()
    assert (await gateway.get("/readyz"))[0] == 200
    (put_apart,) = gateway.spool.glob("quarantine/*/queue2.db")
    assert put_apart.read_bytes() == b"this is somebody's file" * 1000


async def test_without_a_configuration_it_waits_says_why_and_takes_one_that_comes(
    gateway: GatewayProcess,
) -> None:
    await gateway.start(wait=False)
    await until(lambda: _answers(gateway, "/readyz", 503))
    assert b"relay/v1.json.gz" in (await gateway.get("/readyz"))[1]
    assert (await gateway.get("/livez"))[0] == 200
    gateway.write(relay([plain_listener(free_port())], [sandbox()]))
    await gateway.until_ready()


async def _answers(gateway: GatewayProcess, path: str, code: int) -> bool:
    return (await gateway.get(path))[0] == code


async def test_without_a_configuration_it_ends_if_asked_to(tmp_path: Path) -> None:
    gateway = GatewayProcess(tmp_path, "--require-config")
    code, said = await run_to_end(gateway)
    assert code == 2
    assert "relay/v1.json.gz" in said


# --- it reloads


async def test_a_reload_changes_senders_and_keeps_sessions(gateway: GatewayProcess) -> None:
    port = free_port()
    files = encode_files(relay([tls_listener(port)], [sandbox()]), [sender()])
    gateway.write(relay([tls_listener(port)], [sandbox()]), [sender()])
    await gateway.start()
    before = (await gateway.status())["digest"]
    assert (await gateway.status())["files"] == {
        name: file_digest(name, octets) for name, octets in files.items()
    }

    def log_in() -> smtplib.SMTP:
        client = smtplib.SMTP("localhost", port, timeout=20)
        client.starttls(context=trusting())
        client.login("team-a.app", PASSWORD)
        return client

    kept = await asyncio.to_thread(log_in)
    with kept:
        gateway.write(relay([tls_listener(port)], [sandbox()]), [sender(), sender("other")])
        await until(lambda: _digest_is_not(gateway, before))
        await asyncio.to_thread(kept.sendmail, "app@example.com", ["someone@example.net"], MESSAGE)
    await send_logged_in(port, username="team-a.other")
    gateway.write(relay([tls_listener(port)], [sandbox()]), [sender()])
    await until(lambda: _digest_is(gateway, before))
    with pytest.raises(smtplib.SMTPAuthenticationError):
        await send_logged_in(port, username="team-a.other")


async def _digest_is(gateway: GatewayProcess, digest: str) -> bool:
    return bool((await gateway.status())["digest"] == digest)


async def _digest_is_not(gateway: GatewayProcess, digest: str) -> bool:
    return bool((await gateway.status())["digest"] != digest)


@pytest.mark.parametrize(
    ("octets", "sentence"),
    [
        (b"not gzip", "is not gzipped JSON"),
        (gzip.compress(b'{"schema": 99, "digest": "", "document": {}}'), "has schema 99"),
        (
            gzip.compress(b'{"schema": 1, "digest": "x", "document": {}}'),
            "does not match its digest",
        ),
        (
            gzip.compress(b'{"schema": 1, "digest": "", "document": "\\ud800"}'),
            "does not match its digest",
        ),
        (gzip.compress(b'{"schema": 1, "document": ' + b"[" * 100_000), "is not gzipped JSON"),
    ],
)
async def test_a_bad_configuration_changes_nothing_and_is_said(
    gateway: GatewayProcess, octets: bytes, sentence: str
) -> None:
    port = free_port()
    gateway.write(relay([plain_listener(port)], [sandbox()]))
    await gateway.start()
    digest = (await gateway.status())["digest"]
    (gateway.config / "relay" / FILE_NAME).write_bytes(octets)
    assert gateway.process is not None
    gateway.process.send_signal(signal.SIGHUP)
    await until(lambda: _has_problem(gateway, sentence))
    assert (await gateway.status())["digest"] == digest
    assert (await gateway.get("/readyz"))[0] == 200
    await send_plain(port)


async def test_a_configuration_without_upstreams_is_refused(gateway: GatewayProcess) -> None:
    port = free_port()
    gateway.write(relay([plain_listener(port)], [sandbox()]))
    await gateway.start()
    gateway.write(relay([plain_listener(port)], []))
    await until(lambda: _has_problem(gateway, "needs at least one"))
    await send_plain(port)
    await until(lambda: _has(gateway, 1))


async def test_a_damaged_sandbox_file_is_put_aside(gateway: GatewayProcess) -> None:
    port = free_port()
    gateway.write(relay([plain_listener(port)], [sandbox()]))
    gateway.spool.mkdir()
    (gateway.spool / "sandbox.db").write_bytes(b"not a database" * 1000)
    await gateway.start()
    await send_plain(port)
    await until(lambda: _has(gateway, 1))
    assert (gateway.spool / "sandbox.damaged").exists()


async def test_one_unreadable_body_does_not_stop_the_sandbox(gateway: GatewayProcess) -> None:
    port = free_port()
    gateway.write(relay([plain_listener(port)], [sandbox()], suspend=True))
    await gateway.start()
    await send_plain(port, MESSAGE + (b"x" * 70 + b"\r\n") * 5000)
    for file in (gateway.spool / "bodies").iterdir():
        file.unlink()
    for _ in range(3):
        await send_plain(port)
    gateway.write(relay([plain_listener(port)], [sandbox()]))
    await until(lambda: _has(gateway, 3))


async def _has_problem(gateway: GatewayProcess, sentence: str) -> bool:
    return sentence in (await gateway.status())["problem"]


async def test_suspend_takes_mail_and_keeps_it_until_resumed(gateway: GatewayProcess) -> None:
    port = free_port()
    gateway.write(relay([plain_listener(port)], [sandbox()], suspend=True))
    await gateway.start()
    await send_plain(port)
    await until(lambda: _waiting_is(gateway, 1))
    assert await captured(gateway) == []
    gateway.write(relay([plain_listener(port)], [sandbox()]))
    await until(lambda: _has(gateway, 1))


async def _waiting_is(gateway: GatewayProcess, count: int) -> bool:
    return bool((await gateway.status())["queue"]["messages"] == count)


# --- upstreams


async def test_a_dead_upstream_holds_the_queue_and_hands_over_to_the_next(
    gateway: GatewayProcess,
) -> None:
    port, dead = free_port(), free_port()
    gateway.write(relay([plain_listener(port)], [smarthost("dead", dead), sandbox()]))
    await gateway.start()
    await send_plain(port)
    await until(lambda: _has(gateway, 1))
    dead_status, capture_status = (await gateway.status())["upstreams"]
    assert dead_status["state"] == "Held"
    assert dead_status["reason"] == "UpstreamUnreachable"
    assert capture_status["state"] == "Up"
    assert await gateway.metric("mailrelay_upstream_up", upstream="dead") == 0


async def test_mail_waits_for_a_dead_upstream_over_a_restart(gateway: GatewayProcess) -> None:
    port = free_port()
    gateway.write(relay([plain_listener(port)], [smarthost("only", free_port())]))
    await gateway.start()
    for n in range(5):
        await send_plain(port, b"From: app@example.com\r\nX-Test: m%d\r\n\r\nhi\r\n" % n)
    await gateway.kill()
    async with HalfDeadServer(seed=1, sick=0.0) as upstream:
        gateway.write(relay([plain_listener(port)], [smarthost("only", upstream.port)]))
        await gateway.start()
        await until(lambda: set(upstream.taken) == {f"m{n}" for n in range(5)})


async def test_sigterm_finishes_what_is_under_way(gateway: GatewayProcess) -> None:
    port = free_port()
    async with HalfDeadServer(seed=1, sick=0.0) as upstream:
        gateway.write(relay([plain_listener(port)], [smarthost("only", upstream.port)]))
        await gateway.start()
        await asyncio.gather(
            *(
                send_plain(port, b"From: a@example.com\r\nX-Test: m%d\r\n\r\nhi\r\n" % n)
                for n in range(20)
            )
        )
        assert await gateway.stop() == 0
        events = [line["event"] for line in gateway.log_lines()]
        assert "draining" in events
        assert events[-1] == "stopped"
        waiting = 20 - len(upstream.taken)
        await gateway.start()
        await until(lambda: len(upstream.taken) >= 20)
        assert sum(upstream.taken.values()) == 20, (
            f"{waiting} waited; the others must not be sent twice"
        )


# --- the admin port


async def test_status_and_captured_mail_want_the_token(gateway: GatewayProcess) -> None:
    gateway.write(relay([plain_listener(free_port())], [sandbox()]))
    await gateway.start()
    for path in ("/status", "/sandbox/messages", "/sandbox/messages/1", "/sandbox/messages/1/raw"):
        code, body = await gateway.get(path, token="wrong")
        assert code == 401
        assert b"bearer token" in body
    assert (await gateway.get("/sandbox/messages", token="wrong", method="DELETE"))[0] == 401
    assert (await gateway.get("/metrics", token=""))[0] == 200


async def test_captured_mail_can_be_read_and_cleared(gateway: GatewayProcess) -> None:
    port = free_port()
    gateway.write(relay([plain_listener(port)], [sandbox(keep=2)]))
    await gateway.start()
    for n in range(3):
        await send_plain(
            port,
            b"From: app@example.com\r\nSubject: =?utf-8?q?n=C2=B0?= %d\r\n\r\nHi %d\r\n" % (n, n),
        )
    await until(lambda: _newest_is(gateway, "n° 2"))
    messages = await captured(gateway)
    assert [message["subject"] for message in messages] == ["n° 2", "n° 1"]
    _, body = await gateway.get(f"/sandbox/messages/{messages[0]['id']}")
    assert json.loads(body)["text"] == "Hi 2\r\n"
    assert (await gateway.get("/sandbox/messages/999999"))[0] == 404
    assert (await gateway.get("/sandbox/messages?limit=0"))[0] == 400
    _, body = await gateway.get("/sandbox/messages", method="DELETE")
    assert json.loads(body) == {"deleted": 2}
    assert await captured(gateway) == []


async def _newest_is(gateway: GatewayProcess, subject: str) -> bool:
    messages = await captured(gateway)
    return bool(messages) and messages[0]["subject"] == subject


# --- the disk is full


async def test_a_full_disk_refuses_with_452_and_loses_nothing(tmp_path: Path) -> None:
    """On a real small file system, in a mount namespace of its own."""
    port, upstream = free_port(), HalfDeadServer(seed=1, sick=0.0)
    gateway = InSmallFileSystem(tmp_path, "--low-water", "0")
    await upstream.start()
    gateway.write(
        relay(
            [plain_listener(port)],
            [smarthost("only", upstream.port)],
            suspend=True,
            limits=made.limits(max_recipients=10),
            retry=made.retry(max_interval=1.0),
        )
    )
    await gateway.start()
    answered = 0
    try:
        refused: smtplib.SMTPResponseException | None = None
        while refused is None and answered < 2000:
            head = b"From: a@example.com\r\nX-Test: m%d\r\n\r\n" % answered
            try:
                await send_plain(port, head + (b"x" * 998 + b"\r\n") * 200)
                answered += 1
            except smtplib.SMTPResponseException as error:
                refused = error
        assert refused is not None
        assert refused.smtp_code == 452
        assert "4.3.1" in str(refused.smtp_error)
        assert answered > 10
        gateway.write(relay([plain_listener(port)], [smarthost("only", upstream.port)]))
        await until(lambda: len(upstream.taken) >= answered)
        assert set(upstream.taken) == {f"m{n}" for n in range(answered)}
        await until(lambda: _takes_mail_again(port))
    finally:
        await gateway.kill()
        await upstream.stop()


async def _takes_mail_again(port: int) -> bool:
    try:
        await send_plain(port)
    except smtplib.SMTPException:
        return False
    return True


class InSmallFileSystem(GatewayProcess):
    """A gateway whose spool lies on a file system of 48 MiB that nobody else sees."""

    async def start(self, *, wait: bool = True, stdout: int | None = None) -> None:
        self.spool.mkdir()
        unshare = shutil.which("unshare")
        assert unshare is not None, "unshare (util-linux) makes the mount namespace"
        script = f'mount -t tmpfs -o size=48m none "{self.spool}" && exec "$@"'
        with (self.folder / "gateway.log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                unshare,
                *(["--mount"] if os.getuid() == 0 else ["--mount", "--map-root-user"]),
                *("sh", "-c", script, "sh", sys.executable, "-m", "mailrelay_gateway"),
                *("--config", str(self.config), "--spool", str(self.spool)),
                *("--admin", f"127.0.0.1:{self.admin_port}", "--accept-for", "0", *self._arguments),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=asyncio.subprocess.PIPE,
            )
        await self.until_ready()
