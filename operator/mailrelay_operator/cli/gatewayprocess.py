"""The gateway as a child process: start it, follow its log, wait until it is ready, stop it.

`standalone` writes its configuration; its exit codes are passed on.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from mailrelay_operator.cli.admin import Admin
from mailrelay_operator.cli.terminal import LineSplitter

#: Seconds between two polls for readiness.
READY_POLL = 0.05
#: Seconds after which the user is told that it takes long (reading a large queue).
READY_PATIENCE = 20.0
#: Seconds after SIGTERM that the gateway may take: its grace period plus a margin.
STOP_PATIENCE = 130.0
#: Octets per read of its log.
READ_OCTETS = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """The command line of the gateway."""

    config: Path
    spool: Path
    bind: str
    admin: Admin
    tokens: Path | None = None
    log_to_stdout: bool = False  # its log goes directly to stdout

    def arguments(self) -> list[str]:
        """The arguments of `python -m mailrelay_gateway`."""
        host = f"[{self.admin.host}]" if ":" in self.admin.host else self.admin.host
        return [
            *("--config", str(self.config)),
            *("--spool", str(self.spool)),
            *("--bind", self.bind),
            *("--admin", f"{host}:{self.admin.port}"),
            "--require-config",
            # The delay before it stops accepting is for clusters, where endpoints update late.
            *("--accept-for", "0"),
            *(("--tokens", str(self.tokens)) if self.tokens is not None else ()),
        ]


def why_ended(code: int) -> str:
    """A sentence about an unrequested end; "" if the gateway itself said why."""
    if code == 128 + signal.SIGKILL:
        return (
            "The gateway was killed (SIGKILL), by a user or by the kernel's OOM killer (see"
            " `dmesg`)."
        )
    if code > 128:
        with contextlib.suppress(ValueError):
            return f"The gateway was terminated by a signal ({signal.Signals(code - 128).name})."
    if code == 0:
        return "The gateway was stopped by a signal from another process."
    return ""


class GatewayProcess:
    """A running gateway; created by `start`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        """Wrap a process that has just been started."""
        self._process = process

    @classmethod
    async def start(cls, command: Command) -> GatewayProcess:
        """Start the gateway in its own process group: Ctrl-C reaches only `mailrelay up`, which
        stops it."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "mailrelay_operator.cli.child"),
            *command.arguments(),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=None if command.log_to_stdout else asyncio.subprocess.PIPE,
            env={**os.environ, "MAILRELAY_PARENT": str(os.getpid())},
            process_group=0,
        )
        return cls(process)

    async def follow_log(self, take: Callable[[list[bytes]], None]) -> None:
        """Pass on its log in whole lines until the log ends."""
        stream = self._process.stdout
        if stream is None:
            return
        splitter = LineSplitter(take)
        while data := await stream.read(READ_OCTETS):
            splitter.feed(data)
        splitter.close()

    async def until_ready(self, admin: Admin, digest: str) -> bool:
        """Wait until it accepts mail; False if it ended or takes too long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(READY_PATIENCE):
                while self._process.returncode is None:
                    if await asyncio.to_thread(admin.runs, digest):
                        return True
                    await asyncio.sleep(READY_POLL)
        return False

    async def wait(self) -> int:
        """Its exit code when it has ended; 128 plus the signal's number after a signal, as in
        shells."""
        code = await self._process.wait()
        return code if code >= 0 else 128 - code

    def reload(self) -> None:
        """Tell it to read its configuration again."""
        self._send(signal.SIGHUP)

    async def stop(self, hurry: Awaitable[object]) -> int:
        """Let it drain and end, or kill it when `hurry` is done or the time is over; its exit
        code."""
        self._send(signal.SIGTERM)
        ended = asyncio.ensure_future(self.wait())
        hurried = asyncio.ensure_future(hurry)
        await asyncio.wait(
            {ended, hurried}, timeout=STOP_PATIENCE, return_when=asyncio.FIRST_COMPLETED
        )
        hurried.cancel()
        if not ended.done():
            self._send(signal.SIGKILL)
        return await ended

    def _send(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)
