"""Debian's Postfix as the last server of the way: an instance of its own on loopback, in a folder
of its own, that writes a file for each recipient; and a greylisting policy service for it.

Only root can run Postfix's master.
"""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from tests.peers.gateway import certificate
from tests.peers.listening import ListeningPeer
from tests.peers.wholemail import name_of
from tests.ports import free_port
from tests.waiting import PATIENCE

POSTFIX = "/usr/sbin/postfix"
NOBODY = 65534

#: Of the master.cf that Debian ships: what receiving and virtual(8) need. Nothing runs in a chroot.
MASTER = """\
127.0.0.1:{port} inet n - n - - smtpd
127.0.0.1:{tls_port} inet n - n - - smtpd -o smtpd_tls_wrappermode=yes
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
proxywrite unix - - n - 1 proxymap
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
"""


class Postfix:
    """Takes mail for example.net, in the clear or with STARTTLS at `port`, under TLS at
    `tls_port`. What is not set here is as Debian ships it.
    """

    def __init__(self, folder: Path, settings: Mapping[str, str] | None = None) -> None:
        """All users have to reach `folder`."""
        self.port, self.tls_port = free_port(), free_port()
        self.log = folder / "log"
        self._config, self._queue, self._mail = folder / "etc", folder / "queue", folder / "mail"
        self._process: subprocess.Popen[bytes] | None = None
        data = folder / "data"
        for made in (self._config, self._queue, self._mail, data):
            made.mkdir()
        chain, key = self._config / "chain.pem", self._config / "key.pem"
        chain.write_text(certificate().chain)
        key.write_text(certificate().key)
        main = {
            "compatibility_level": "3.6",
            "queue_directory": str(self._queue),
            "data_directory": str(data),
            "maillog_file": str(self.log),
            "maillog_file_prefixes": str(folder),
            "myhostname": "postfix.example.net",
            "mydestination": "",
            "mynetworks": "127.0.0.0/8",
            "inet_interfaces": "127.0.0.1",
            "inet_protocols": "ipv4",
            "alias_maps": "",
            "alias_database": "",
            "message_size_limit": "20971520",
            "virtual_mailbox_domains": "example.net",
            "virtual_mailbox_base": str(self._mail),
            "virtual_mailbox_maps": "static:all/",
            "virtual_mailbox_limit": "0",
            "virtual_uid_maps": f"static:{NOBODY}",
            "virtual_gid_maps": f"static:{NOBODY}",
            "smtpd_tls_cert_file": str(chain),
            "smtpd_tls_key_file": str(key),
            "smtpd_tls_security_level": "may",
            **(settings or {}),
        }
        (self._config / "main.cf").write_text("".join(f"{k} = {v}\n" for k, v in main.items()))
        (self._config / "master.cf").write_text(
            MASTER.format(port=self.port, tls_port=self.tls_port)
        )
        subprocess.run(["chown", "postfix", data], check=True)
        subprocess.run(["chown", str(NOBODY), self._mail], check=True)

    async def start(self) -> None:
        """Start its master in the foreground, and wait until it greets."""
        self._process = subprocess.Popen(
            [POSTFIX, "-c", str(self._config), "start-fg"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        async with asyncio.timeout(PATIENCE):
            while True:
                assert self._process.poll() is None, f"Postfix ended; see {self.log}"
                try:
                    reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                except ConnectionRefusedError:
                    await asyncio.sleep(0.05)
                    continue
                greeting = await reader.readline()
                writer.write(b"QUIT\r\n")
                writer.close()
                assert greeting.startswith(b"220"), greeting
                return

    async def stop(self) -> None:
        """End its master, which ends the others: what `start` began is a shell that waits."""
        if self._process is not None:
            if self._process.poll() is None:
                await asyncio.to_thread(self._run_stop)
            await asyncio.to_thread(self._process.wait, 30)

    def _run_stop(self) -> None:
        subprocess.run(
            [POSTFIX, "-c", str(self._config), "stop"],
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=30,
        )

    def arrived(self) -> int:
        """How many files there are: one for each recipient."""
        return sum(1 for _ in (self._mail / "all" / "new").glob("*"))

    def account(self) -> tuple[Counter[tuple[str, str]], list[str]]:
        """What was delivered, by name and recipient; and the names of what is damaged."""
        delivered: Counter[tuple[str, str]] = Counter()
        damaged: list[str] = []
        for path in (self._mail / "all" / "new").glob("*"):
            content = path.read_bytes().replace(b"\n", b"\r\n")
            name, whole = name_of(content)
            [recipient] = [
                line[len(b"Delivered-To: ") :].decode()
                for line in content.partition(b"\r\n\r\n")[0].split(b"\r\n")
                if line.startswith(b"Delivered-To: ")
            ]
            delivered[name, recipient] += 1
            if not whole:
                damaged.append(name)
        return delivered, damaged

    def contents(self) -> list[bytes]:
        """What was delivered, with CRLF line ends."""
        files = (self._mail / "all" / "new").glob("*")
        return [path.read_bytes().replace(b"\n", b"\r\n") for path in files]

    def queue_files(self) -> int:
        """How many messages it took: transactions that ended with 250."""
        return self.log.read_text(errors="replace").count("message-id=")


class Greylist(ListeningPeer):
    """A policy service (Postfix's SMTPD_POLICY_README): whom it does not know for `seconds` yet is
    to come again.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds
        self.deferred = 0
        self.passed = 0
        self._first: dict[tuple[str, str, str], float] = {}

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer each request."""
        while True:
            request = (await reader.readuntil(b"\n\n")).decode()
            asked = dict(line.split("=", 1) for line in request.splitlines() if "=" in line)
            writer.write(f"action={self._decide(asked)}\n\n".encode())
            await writer.drain()

    def _decide(self, asked: dict[str, str]) -> str:
        now = time.monotonic()
        key = (asked["client_address"], asked["sender"], asked["recipient"])
        if now - self._first.setdefault(key, now) < self.seconds:
            self.deferred += 1
            return "DEFER_IF_PERMIT 4.2.0 Greylisted, try again later"
        self.passed += 1
        return "DUNNO"
