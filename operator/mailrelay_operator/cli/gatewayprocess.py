"""The gateway as a child process: start it, follow its log, see it ready, stop it.

Only the process lives here. Its configuration is written by `standalone`, its exit codes are its
own and are passed on.
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

#: Seconds between two looks whether it is ready: a person waits.
READY_POLL = 0.05
#: Seconds after which we say that it takes long (a large queue is being read).
READY_PATIENCE = 20.0
#: Seconds after SIGTERM that the gateway may take: its own grace period, and some.
STOP_PATIENCE = 130.0
#: Octets read from its log at once.
READ_OCTETS = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """How the gateway is started."""

    config: Path
    spool: Path
    bind: str
    admin: Admin
    tokens: Path | None = None
    log_to_stdout: bool = False  # its own lines, past us

    def arguments(self) -> list[str]:
        """The arguments of `python -m mailrelay_gateway`."""
        host = f"[{self.admin.host}]" if ":" in self.admin.host else self.admin.host
        return [
            *("--config", str(self.config)),
            *("--spool", str(self.spool)),
            *("--bind", self.bind),
            *("--admin", f"{host}:{self.admin.port}"),
            "--require-config",
            # Accepting for some seconds more is for clusters, where clients learn late.
            *("--accept-for", "0"),
            *(("--tokens", str(self.tokens)) if self.tokens is not None else ()),
        ]


def why_ended(code: int) -> str:
    """A sentence on an end that nobody here asked for; "" where the gateway said why itself."""
    if code == 128 + signal.SIGKILL:
        return (
            "The gateway was killed (SIGKILL): by somebody, or by the kernel for lack of memory"
            " (`dmesg` tells)."
        )
    if code > 128:
        with contextlib.suppress(ValueError):
            return f"The gateway was ended by a signal ({signal.Signals(code - 128).name})."
    if code == 0:
        return "The gateway was stopped by a signal that came from elsewhere."
    return ""


class GatewayProcess:
    """One running gateway. Make it with `start`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        """Wrap a process that was just started."""
        self._process = process

    @classmethod
    async def start(cls, command: Command) -> GatewayProcess:
        """Start the gateway in a process group of its own: a Ctrl-C reaches us, and we stop it."""
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
        """Hand over its log, in whole lines, until the log ends."""
        stream = self._process.stdout
        if stream is None:
            return
        splitter = LineSplitter(take)
        while data := await stream.read(READ_OCTETS):
            splitter.feed(data)
        splitter.close()

    async def until_ready(self, admin: Admin, digest: str) -> bool:
        """Wait until it takes mail; False when it ended, or takes longer than a person waits."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(READY_PATIENCE):
                while self._process.returncode is None:
                    if await asyncio.to_thread(admin.runs, digest):
                        return True
                    await asyncio.sleep(READY_POLL)
        return False

    async def wait(self) -> int:
        """Its exit code when it has ended; ended by a signal, 128 and the signal, as shells do."""
        code = await self._process.wait()
        return code if code >= 0 else 128 - code

    def reload(self) -> None:
        """Tell it to read its configuration again."""
        self._send(signal.SIGHUP)

    async def stop(self, hurry: Awaitable[object]) -> int:
        """Let it drain and end, at once when `hurry` is done or its time is over; the exit code."""
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
