"""A gateway as a process of its own: written a configuration, started, asked, killed.

Loopback only.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import ssl
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mailrelay_gateway.contract.documents import (
    AuthenticationMode,
    Certificate,
    HostPort,
    Limits,
    Listener,
    RelayDocument,
    Retry,
    Route,
    Sandbox,
    Sender,
    TlsMode,
    Upstream,
)
from mailrelay_gateway.contract.files import FILE_NAME, encode_files
from tests.models import made
from tests.peers import certificates, vocabulary
from tests.ports import free_port
from tests.waiting import PATIENCE

TOKEN = "a token for tests"
PASSWORD = "a password for tests"


def certificate() -> Certificate:
    """A gateway's certificate, for localhost."""
    return certificates.certificate("localhost")


def trusting() -> ssl.SSLContext:
    """A client's context that trusts `certificate()` and nothing else."""
    return certificates.trusting(certificate())


def sender(
    name: str = "app", *, addresses: Sequence[str] = ("*@example.com",), namespace: str = "team-a"
) -> Sender:
    """A MailSender with the password PASSWORD; its username is NAMESPACE.NAME."""
    return made.sender(
        uid=f"uid-{namespace}-{name}",
        namespace=namespace,
        name=name,
        username=f"{namespace}.{name}",
        verifiers=(made.sha256_verifier(hash=hashlib.sha256(PASSWORD.encode()).hexdigest()),),
        addresses=tuple(addresses),
    )


def plain_listener(port: int, name: str = "plain") -> Listener:
    """A listener without TLS and login, for clients on loopback."""
    return made.listener(
        name=name,
        port=port,
        tls=made.listener_tls(mode=TlsMode.NONE),
        authentication=made.listener_authentication(
            mode=AuthenticationMode.NONE, client_cidrs=("127.0.0.0/8",)
        ),
    )


def tls_listener(
    port: int, mode: TlsMode = TlsMode.START_TLS, name: str = "submission"
) -> Listener:
    """A listener that wants TLS and a login."""
    return made.listener(
        name=name, port=port, tls=made.listener_tls(mode=mode, certificates=(certificate(),))
    )


def smarthost(name: str, *ports: int, connections: int = 20) -> Upstream:
    """A smarthost on loopback without TLS and login."""
    return made.upstream(
        name=name,
        connections=connections,
        messages_per_connection=1000,
        settings=made.smarthost(
            hosts=tuple(HostPort(host="127.0.0.1", port=port) for port in ports),
            tls=made.upstream_tls(mode=TlsMode.NONE),
        ),
    )


def sandbox(name: str = "capture", keep: int = 1000) -> Upstream:
    """A sandbox."""
    return made.upstream(name=name, settings=Sandbox(keep=keep))


def relay(
    listeners: Sequence[Listener],
    upstreams: Sequence[Upstream],
    *,
    retry: Retry | None = None,
    limits: Limits | None = None,
    suspend: bool = False,
    routes: Sequence[Route] = (),
) -> RelayDocument:
    """A relay's document, its admin token being TOKEN."""
    return made.relay_document(
        relay=made.relay_reference(namespace="mail", name="relay"),
        hostname="relay.example.com",
        suspend=suspend,
        listeners=tuple(listeners),
        upstreams=tuple(upstreams),
        routes=tuple(routes),
        retry=retry or made.retry(give_up_after=3600.0, max_interval=1.0),
        limits=limits or made.limits(),
        admin_token_sha256=hashlib.sha256(TOKEN.encode()).hexdigest(),
    )


class GatewayProcess:
    """One gateway process in a folder of the test; restartable with the same spool."""

    def __init__(
        self,
        folder: Path,
        *arguments: str,
        python: str = sys.executable,
        under: Sequence[str] = (),
    ) -> None:
        """`under` is a command that runs it, such as prlimit with what it sets."""
        self.folder = folder
        self.config = folder / "config"
        self.spool = folder / "spool"
        self.admin_port = free_port()
        self._arguments = arguments
        self._command = (*under, python)
        self.process: asyncio.subprocess.Process | None = None
        self._log: list[int] = []

    def write(self, document: RelayDocument, senders: Sequence[Sender] = ()) -> None:
        """Write a configuration as kubelet would: each file replaced whole."""
        files = encode_files(document, senders)
        for stale in self.config.glob("senders-*"):
            if stale.name not in files:
                (stale / FILE_NAME).unlink()
                stale.rmdir()
        for name, octets in files.items():
            folder = self.config / name
            folder.mkdir(parents=True, exist_ok=True)
            fresh = folder / "fresh"
            fresh.write_bytes(octets)
            fresh.rename(folder / FILE_NAME)

    async def start(self, *, wait: bool = True, stdout: int | None = None) -> None:
        """Start it and wait until it is ready; its log goes to a file, or to `stdout`."""
        with (self.folder / "gateway.log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *self._command,
                *("-m", "mailrelay_gateway", "--config", str(self.config)),
                *("--spool", str(self.spool), "--admin", f"127.0.0.1:{self.admin_port}"),
                *("--accept-for", "0", "--grace", "20", *self._arguments),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log if stdout is None else stdout,
                stderr=asyncio.subprocess.PIPE,
                env={**os.environ, "PYTHONWARNINGS": "error"},
            )
        if wait:
            await self.until_ready()

    async def until_ready(self, seconds: float = PATIENCE) -> None:
        """Wait for /readyz."""
        async with asyncio.timeout(seconds):
            while (await self.get("/readyz"))[0] != 200:
                assert self.process is not None
                if self.process.returncode is not None:
                    raise AssertionError(f"the gateway ended: {await self.stderr()}")
                await asyncio.sleep(0.02)

    async def get(self, path: str, token: str = TOKEN, method: str = "GET") -> tuple[int, bytes]:
        """Ask the admin port; (0, reason) when nobody answers."""
        return await asyncio.to_thread(self._get, path, token, method)

    def _get(self, path: str, token: str, method: str) -> tuple[int, bytes]:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.admin_port}{path}",
            headers={"Authorization": f"Bearer {token}"},
            method=method,
        )
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()
        except OSError as error:
            return 0, str(error).encode()

    async def status(self) -> dict[str, Any]:
        """The /status document."""
        code, body = await self.get("/status")
        assert code == 200, body
        found: dict[str, Any] = json.loads(body)
        return found

    async def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's series that carry these labels."""
        _, text = await self.get("/metrics")
        total = 0.0
        for line in text.decode().splitlines():
            if line.startswith((f"{name}{{", f"{name} ")):
                series, _, value = line.rpartition(" ")
                if all(f'{key}="{wanted}"' in series for key, wanted in labels.items()):
                    total += float(value)
        return total

    def log_lines(self, event: str | None = None) -> list[dict[str, Any]]:
        """What it has logged so far, in whole lines."""
        text = (self.folder / "gateway.log").read_bytes()
        lines = [json.loads(line) for line in text.split(b"\n")[:-1] if line.startswith(b"{")]
        assert [each for line in lines for each in vocabulary.problems(line)] == []
        return [line for line in lines if event is None or line["event"] == event]

    async def stderr(self) -> str:
        """What it wrote to stderr; only after its end."""
        assert self.process is not None
        assert self.process.stderr is not None
        return (await self.process.stderr.read()).decode()

    async def stop(self) -> int:
        """SIGTERM, and wait for its end."""
        assert self.process is not None
        if self.process.returncode is None:
            self.process.terminate()
        async with asyncio.timeout(PATIENCE):
            return await self.process.wait()

    async def kill(self) -> None:
        """SIGKILL: no instruction more is run."""
        assert self.process is not None
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGKILL)
        await self.process.wait()
