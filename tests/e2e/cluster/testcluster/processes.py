"""Running programs: those one waits for, and those that stay (recorded, to be stopped later)."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from .report import ClusterError, tail

Argument = str | Path

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def run(
    argv: Sequence[Argument],
    doing: str,
    stdin: str | Path | None = None,
    env: Mapping[str, str] | None = None,
) -> str:
    """Run a program to its end and return its stdout; `doing` names the deed in the error.

    `stdin` is a text, or the path of a file to read.
    """
    command = [str(argument) for argument in argv]
    if isinstance(stdin, Path):
        with stdin.open("rb") as file:
            done = subprocess.run(command, stdin=file, text=True, capture_output=True, env=env)
    else:
        done = subprocess.run(command, input=stdin or "", text=True, capture_output=True, env=env)
    if done.returncode != 0:
        # dpkg says on stdout what apt-get then only counts on stderr
        words = "\n".join(tail(text) for text in (done.stdout, done.stderr) if text)
        raise ClusterError(f"{doing} failed ({argv[0]} ended with {done.returncode}).\n{words}")
    return done.stdout


def wait_until(
    condition: Callable[[], bool], what: str, seconds: float, log: Path | None = None
) -> None:
    """Ask until the condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            shown = "\n" + tail(log.read_text(errors="replace")) if log and log.exists() else ""
            raise ClusterError(f"{what} did not happen within {seconds:.0f} seconds.{shown}")
        time.sleep(0.1)


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the state on; empty when there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def children(pid: int) -> list[int]:
    """The processes whose parent is `pid`."""
    candidates = [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]
    return [candidate for candidate in candidates if _stat(candidate)[1:2] == [str(pid)]]


@dataclass(frozen=True)
class Record:
    """A process, told apart from a later one that got the same number."""

    pid: int
    started: int  # clock ticks after boot
    boot: str

    @classmethod
    def of(cls, pid: int) -> "Record | None":
        fields = _stat(pid)
        if not fields or fields[0] in "ZX":
            return None
        return cls(
            pid, int(fields[19]), Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        )

    def alive(self) -> bool:
        return Record.of(self.pid) == self


class Processes:
    """The processes that `up` leaves running, one record and one log each."""

    def __init__(self, records: Path, logs: Path):
        self._records = records
        self._logs = logs
        # Only what this command started itself; the rest has another parent.
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    def log(self, name: str) -> Path:
        return self._logs / f"{name}.log"

    def names(self) -> list[str]:
        return sorted(path.stem for path in self._records.glob("*.json"))

    def pid(self, name: str) -> int | None:
        """The number of the process if it runs, and is the one we started."""
        if name in self._children:
            self._children[name].poll()  # one that has ended is buried here
        try:
            record = Record(**json.loads((self._records / f"{name}.json").read_text()))
        except (OSError, ValueError, TypeError):
            return None
        return record.pid if record.alive() else None

    def start(
        self, name: str, argv: Sequence[Argument], env: Mapping[str, str] | None = None
    ) -> int:
        """Start a program that outlives this command; when it runs already, leave it."""
        if running := self.pid(name):
            return running
        self._records.mkdir(parents=True, exist_ok=True)
        self._logs.mkdir(parents=True, exist_ok=True)
        environment = {"PATH": SYSTEM_PATH, "HOME": "/", "LANG": "C.UTF-8", **(env or {})}
        with self.log(name).open("ab") as log:
            child = subprocess.Popen(
                [str(a) for a in argv],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                cwd="/",
                start_new_session=True,
            )
        self._children[name] = child
        record = Record.of(child.pid)
        if record is None:
            child.wait()
            raise ClusterError(f"{name} ended at once.\n{self.tail(name)}")
        (self._records / f"{name}.json").write_text(json.dumps(asdict(record)))
        return child.pid

    def require(self, name: str) -> None:
        """Fail, with its last words, when a process that should run has ended."""
        if self.pid(name) is None:
            raise ClusterError(f"{name} has ended; its log is {self.log(name)}.\n{self.tail(name)}")

    def tail(self, name: str) -> str:
        log = self.log(name)
        return tail(log.read_text(errors="replace")) if log.exists() else "    (no log)"

    def stop(self, name: str, grace: float = 5) -> bool:
        """Stop one process, politely and then not; True when there was something to stop."""
        pid = self.pid(name)
        if pid is not None:
            if grace:
                os.kill(pid, signal.SIGTERM)
            deadline = time.monotonic() + grace
            while self.pid(name) and time.monotonic() < deadline:
                time.sleep(0.05)
            if self.pid(name):
                os.kill(pid, signal.SIGKILL)
                wait_until(lambda: self.pid(name) is None, f"The end of {name}", 10)
        self._forget(name)
        return pid is not None

    def wait_for_end(self, name: str) -> None:
        """Wait for a process that is ended by something else."""
        wait_until(lambda: self.pid(name) is None, f"The end of {name}", 10)
        self._forget(name)

    def _forget(self, name: str) -> None:
        (self._records / f"{name}.json").unlink(missing_ok=True)


def kill_strays(programs: Path, spare: Sequence[str] = ()) -> list[str]:
    """Kill what runs one of our programs without a record: its starter was killed in between."""
    killed = []
    for entry in os.listdir("/proc"):
        try:
            program = Path(os.readlink(f"/proc/{entry}/exe")) if entry.isdigit() else None
        except OSError:
            continue
        if program and program.is_relative_to(programs) and program.name not in spare:
            os.kill(int(entry), signal.SIGKILL)
            killed.append(program.name)
    return killed
