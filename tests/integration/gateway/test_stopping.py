"""A stop: no new attempt begins, mail is taken a little longer, and nothing may hang for ever."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

from mailrelay_gateway.contract.files import FILE_NAME
from tests.peers.client import send_plain
from tests.peers.gateway import (
    GatewayProcess,
    plain_listener,
    relay,
    sandbox,
    smarthost,
)
from tests.peers.listening import ListeningPeer
from tests.ports import free_port
from tests.waiting import until


class Upstream(ListeningPeer):
    """Takes mail, one message at a time, when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = 0
        self.taken = 0
        self.may_take = asyncio.Event()

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 slow.example\r\n")
        in_data = False
        while line := await reader.readline():
            if in_data:
                if line == b".\r\n":
                    await self.may_take.wait()
                    self.taken += 1
                    in_data = False
                    writer.write(b"250 2.0.0 taken\r\n")
                continue
            verb = line[:4].upper().strip()
            self.begun += verb == b"MAIL"
            in_data = verb == b"DATA"
            writer.write(b"354 go\r\n" if in_data else b"250 ok\r\n")
            if verb == b"QUIT":
                return


async def test_after_sigterm_no_attempt_begins_and_mail_is_still_taken(tmp_path: Path) -> None:
    gateway = GatewayProcess(tmp_path, "--accept-for", "60", "--grace", "60")
    upstream, port = Upstream(), free_port()
    await upstream.start()
    gateway.write(relay([plain_listener(port)], [smarthost("slow", upstream.port, connections=1)]))
    await gateway.start()
    try:
        for _ in range(10):
            await send_plain(port)
        await until(lambda: upstream.begun == 1)
        assert gateway.process is not None
        gateway.process.terminate()
        await until(lambda: gateway.log_lines("draining"))
        upstream.may_take.set()
        await until(lambda: upstream.taken == 1)
        await send_plain(port)  # clients still hold our address
        assert (upstream.begun, upstream.taken) == (1, 1)
        await gateway.kill()  # it would accept for a minute
        await gateway.start()
        await until(lambda: upstream.taken == 11)
    finally:
        await gateway.kill()
        await upstream.stop()


async def test_a_folder_that_does_not_answer_holds_up_no_stop(gateway: GatewayProcess) -> None:
    port = free_port()
    gateway.write(relay([plain_listener(port)], [sandbox()]))
    await gateway.start()
    silent = gateway.config / "relay" / "silent"
    os.mkfifo(silent)  # to open it waits for a writer, who never comes: like a dead mount
    silent.rename(gateway.config / "relay" / FILE_NAME)
    assert gateway.process is not None
    gateway.process.send_signal(signal.SIGHUP)
    await send_plain(port)
    assert (await gateway.get("/livez"))[0] == 200
    assert await gateway.stop() == 0


def test_a_stop_that_hangs_is_ended() -> None:
    program = (
        "import threading; from mailrelay_gateway.watchdog import end_after;"
        " end_after(0.05); threading.Event().wait()"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60)
    assert ended.returncode == 5
    assert b"stop_forced" in ended.stdout
