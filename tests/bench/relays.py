"""The relays that are measured: our gateway, the floor (floor.py) and Debian's Postfix.

Each takes mail on loopback, answers 250 after an fsync, and relays to a sink.
`--against` starts the gateway of another revision by this module's `Gateway` in that revision: its
name, arguments, `port`, `start` and `stop` stay as they are.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from functools import lru_cache
from pathlib import Path

from tests.models import made
from tests.peers.gateway import GatewayProcess, plain_listener, relay, smarthost
from tests.ports import free_port

ROOT = Path(__file__).parents[2]
#: Connections to the sink at once: Postfix's default_destination_concurrency_limit, and ours.
CONNECTIONS = 20


@lru_cache
def gateway_python() -> str:
    """An interpreter like the image's: Debian's Python with the gateway's locked packages.

    The Python that .venv was made with may be one built without optimisation. Where Debian has none
    that is new enough, it is that one all the same.
    """
    debian = "/usr/bin/python3"
    check = "import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))"
    if subprocess.run([debian, "-c", check], capture_output=True, check=False).returncode != 0:
        return sys.executable
    lock = ROOT / "requirements" / "gateway.txt"
    folder = ROOT / "build" / "bench-python"
    python, stamp = folder / "bin" / "python", folder / "installed"
    wanted = hashlib.sha256(lock.read_bytes()).hexdigest()
    if not stamp.exists() or stamp.read_text() != wanted:
        subprocess.run([debian, "-m", "venv", "--clear", folder], check=True)
        pip = [str(python), *["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]]
        subprocess.run([*pip, "--require-hashes", "--requirement", str(lock)], check=True)
        (site,) = folder.glob("lib/python3*/site-packages")
        (site / "mailrelay-gateway.pth").write_text(f"{ROOT / 'gateway'}\n")
        stamp.write_text(wanted)
    return str(python)


def gateway_python_version() -> str:
    """What that interpreter says of itself."""
    found = subprocess.run(
        [gateway_python(), "--version"], capture_output=True, text=True, check=True
    )
    return found.stdout.strip()


class Gateway:
    """mailrelay, one process, its spool durable as always."""

    def __init__(self, folder: Path, sink_port: int) -> None:
        self.port = free_port()
        self._gateway = GatewayProcess(folder, python=gateway_python())
        self._gateway.write(
            relay(
                [plain_listener(self.port)],
                [smarthost("sink", sink_port, connections=CONNECTIONS)],
                limits=made.limits(max_recipients=1000),
            )
        )

    async def start(self) -> int:
        """Start; the root of its processes."""
        await self._gateway.start()
        assert self._gateway.process is not None
        return self._gateway.process.pid

    async def stop(self) -> None:
        """Stop."""
        await self._gateway.stop()


class Floor:
    """The bare relay of floor.py, on the gateway's interpreter if no other is named."""

    def __init__(self, folder: Path, sink_port: int, python: str | None = None) -> None:
        self.port = free_port()
        self._log = folder / "log"
        self._log.mkdir()
        arguments = [str(self.port), str(sink_port), str(self._log), str(CONNECTIONS)]
        program = str(Path(__file__).with_name("floor.py"))
        self._command = [python or gateway_python(), program, *arguments]
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> int:
        """Start; its pid."""
        self._process = subprocess.Popen(self._command)
        async with asyncio.timeout(10):
            while True:
                if self._process.poll() is not None:
                    raise RuntimeError(f"the floor ended with {self._process.returncode}")
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                except OSError:
                    await asyncio.sleep(0.02)
                    continue
                writer.close()
                return self._process.pid

    async def stop(self) -> None:
        """Stop."""
        if self._process is not None:
            self._process.terminate()
            await asyncio.to_thread(self._process.wait, 10)


class Postfix:
    """Debian's Postfix as it ships, in folders of its own; changed only what makes it a relay to
    the sink on loopback.
    """

    def __init__(self, folder: Path, sink_port: int) -> None:
        self.port = free_port()
        self._config = folder / "etc"
        self._queue = folder / "queue"
        data = folder / "data"
        shutil.copytree("/etc/postfix", self._config, ignore=shutil.ignore_patterns("sasl"))
        template = Path("/usr/share/postfix/main.cf.debian").read_text()
        settings = {
            "compatibility_level": "3.6",
            "queue_directory": str(self._queue),
            "data_directory": str(data),
            "myhostname": "postfix.example.com",
            "mydestination": "",
            "mynetworks": "127.0.0.0/8",
            "inet_interfaces": "127.0.0.1",
            "inet_protocols": "ipv4",
            "relayhost": f"[127.0.0.1]:{sink_port}",
            "alias_maps": "",
            "alias_database": "",
            "smtp_tls_security_level": "none",
        }
        kept = [
            line
            for line in template.splitlines()
            if not re.match(rf"({'|'.join(settings)}|smtpd_tls_\w+|smtp_tls_\w+)\s*=", line)
        ]
        self._config.joinpath("main.cf").write_text(
            "\n".join([*kept, *(f"{key} = {value}" for key, value in settings.items())]) + "\n"
        )
        master = Path("/usr/share/postfix/master.cf.dist").read_text()
        master = re.sub(r"(?m)^smtp(\s+inet)", rf"127.0.0.1:{self.port}\1", master, count=1)
        self._config.joinpath("master.cf").write_text(master)
        self._queue.mkdir()
        data.mkdir()
        shutil.chown(data, "postfix")
        for path in (folder, *folder.parents):
            if path.stat().st_uid == os.getuid() and not path.stat().st_mode & 0o001:
                path.chmod(path.stat().st_mode | 0o011)

    async def start(self) -> int:
        """Start; the pid of its master."""
        self._run("check")
        self._run("start")
        pid_file = self._queue / "pid" / "master.pid"
        deadline = time.monotonic() + 10
        while not pid_file.exists():
            if time.monotonic() > deadline:
                raise RuntimeError("Postfix did not start; see the system's log")
            await asyncio.sleep(0.05)
        return int(pid_file.read_text())

    async def stop(self) -> None:
        """Stop all of it."""
        self._run("stop")

    def _run(self, verb: str) -> None:
        subprocess.run(
            ["/usr/sbin/postfix", "-c", str(self._config), verb],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=30,
        )
