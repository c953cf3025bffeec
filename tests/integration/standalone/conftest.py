"""A running `mailrelay up`, as a person would start it: a process, its lines, its data folder."""

import contextlib
import json
import os
import pty
import queue
import re
import signal
import subprocess
import sys
import threading
import time
import tty
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mailrelay_operator.cli.main import main
from tests.ports import free_port
from tests.waiting import PATIENCE, wait_until

ROOT = Path(__file__).resolve().parents[3]
PROGRAM = Path(sys.executable).with_name("mailrelay")
LAST_HINT = "mailrelay status --data"
#: No test uses the person's own state folder: each names one.
ENVIRONMENT = {**os.environ, "XDG_STATE_HOME": "/nonexistent"}


def sandbox_yaml(port: int) -> str:
    """The first example, on a port of its own."""
    text = (ROOT / "examples" / "1-sandbox.yaml").read_text()
    assert "port: 2525" in text
    return text.replace("port: 2525", f"port: {port}")


def mailrelay(*arguments: object, stdin: str | None = None) -> "subprocess.CompletedProcess[str]":
    """Run the program to its end."""
    return subprocess.run(
        [str(PROGRAM), *map(str, arguments)],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        env=ENVIRONMENT,
    )


def in_shell(line: str, stdin: str | None = None) -> "subprocess.CompletedProcess[str]":
    """A shell's line, for what only a shell can do to standard input."""
    return subprocess.run(
        line,
        shell=True,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


@dataclass(frozen=True)
class Done:
    """What a command said, and its exit code."""

    returncode: int
    stdout: str
    stderr: str


def invoke(*arguments: object, stdin: str | None = None) -> Done:
    """As `mailrelay`, inside this process: for commands that start nothing, and quickly."""
    result = CliRunner(env={"XDG_STATE_HOME": "/nonexistent"}).invoke(
        main, [str(one) for one in arguments], input=stdin
    )
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Done(result.exit_code, result.stdout, result.stderr)


@dataclass
class Relay:
    """One `mailrelay up`, at a terminal of its own. Lines of stdout and stderr come in one list, in
    the order they came."""

    file: Path
    data: Path
    port: int
    admin: int
    extra: tuple[str, ...] = ()
    at_a_terminal: bool = True
    lines: list[str] = field(default_factory=list)

    def start(self) -> "Relay":
        """Start it and wait until it has said what to do."""
        self.lines.clear()
        if self.at_a_terminal:
            ours, theirs = pty.openpty()
            tty.setraw(theirs)  # lines come as they are written
        else:
            ours, theirs = os.pipe()
        self._output = open(ours, "rb", buffering=0)  # noqa: SIM115 - closed by `stop`
        self.process = subprocess.Popen(
            [
                str(PROGRAM),
                *("up", str(self.file), "--data", str(self.data)),
                *("--admin", f"127.0.0.1:{self.admin}", *self.extra),
            ],
            stdin=subprocess.DEVNULL,
            stdout=theirs,
            stderr=theirs,
            env=ENVIRONMENT,
        )
        os.close(theirs)
        self._queue: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.wait_for_line(LAST_HINT)
        return self

    def _read(self) -> None:
        rest = b""
        # A terminal that everybody has left answers EIO.
        with contextlib.suppress(OSError):
            while octets := self._output.read(1 << 16):
                *lines, rest = (rest + octets).split(b"\n")
                for line in lines:
                    self._queue.put(line.decode().rstrip("\r"))

    def wait_for_line(self, text: str) -> str:
        """The first line, from those not yet looked at, that holds the text."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                line = self._queue.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                said = "\n".join(self.lines)
                raise AssertionError(f"no line with {text!r} came; it said:\n{said}") from None
            self.lines.append(line)
            if text in line:
                return line

    def hint(self, name: str) -> str:
        """A value of the table of hints: `hint("Password")`."""
        for line in self.lines:
            if found := re.match(rf"  {name}  +(\S+)", line):
                return found[1]
        raise AssertionError(f"no hint {name} in {self.lines}")

    def command(self, program: str) -> str:
        """The hint that calls this program."""
        return next(line.strip() for line in self.lines if program in line)

    def stop(self) -> int:
        """Ctrl-C; its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        code = self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        while not self._queue.empty():
            self.lines.append(self._queue.get_nowait())
        self._output.close()
        return code

    def kill(self) -> None:
        """End it at once, with the gateway, which the kernel then stops."""
        if self.process.poll() is None:
            self.process.kill()
        self.stop()

    def edit(self, text: str) -> None:
        """Write the file as editors do: another file under the same name."""
        new = self.file.with_suffix(".new")
        new.write_text(text)
        new.replace(self.file)

    def ask(self, path: str) -> Any:
        """GET from the admin port, with the token."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.admin}{path}",
            headers={"Authorization": f"Bearer {self.hint('Admin token')}"},
        )
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            body = answer.read()
        return json.loads(body) if answer.headers.get_content_type() == "application/json" else body

    def captured(self, subject: str) -> dict[str, Any]:
        """The captured message with this subject, once it is there."""

        def find() -> dict[str, Any] | None:
            listed = self.ask("/sandbox/messages")["messages"]
            return next((one for one in listed if one["subject"] == subject), None)

        found: dict[str, Any] = wait_until(find, f"captured message {subject!r}")
        return found


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    """The sandbox example, running, for tests that only send to it."""
    folder = tmp_path_factory.mktemp("relay")
    port = free_port()
    (folder / "relay.yaml").write_text(sandbox_yaml(port))
    running = Relay(folder / "relay.yaml", folder / "data", port, free_port())
    try:
        yield running.start()
    finally:
        running.kill()


@pytest.fixture
def own_relay(tmp_path: Path) -> Iterator[Relay]:
    """The sandbox example, not started yet, for tests that edit, stop or restart it."""
    port = free_port()
    (tmp_path / "relay.yaml").write_text(sandbox_yaml(port))
    own = Relay(tmp_path / "relay.yaml", tmp_path / "data", port, free_port())
    try:
        yield own
    finally:
        if hasattr(own, "process"):
            own.kill()
