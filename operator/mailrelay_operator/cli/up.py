"""`mailrelay up`: plans files as the operator would and runs one gateway on this machine.

Joins files, data folder, plan, child process and terminal. `standalone` decides what to run,
`hints` what to print.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from ipaddress import ip_network
from pathlib import Path

import click

from mailrelay_operator.cli.admin import (
    AdminUnreachable,
    parse_host,
    parse_host_port,
    resolve_here,
)
from mailrelay_operator.cli.checking import examine
from mailrelay_operator.cli.documents import (
    FileProblem,
    FilesUnusable,
    files_of,
    read_files,
    read_stdin,
)
from mailrelay_operator.cli.folder import DataFolder, FolderUnusable
from mailrelay_operator.cli.folders import folder_of_relay
from mailrelay_operator.cli.gatewayprocess import Command, GatewayProcess, why_ended
from mailrelay_operator.cli.hints import hint_text
from mailrelay_operator.cli.inventory import Key, choose_relay
from mailrelay_operator.cli.itself import program
from mailrelay_operator.cli.loglines import humanize
from mailrelay_operator.cli.reading import read_inventory
from mailrelay_operator.cli.standalone import REPLAN_EVERY, Egress, Picture, Standalone
from mailrelay_operator.cli.stop import NotUsable
from mailrelay_operator.cli.terminal import LogFile, Terminal

#: Minimum free octets: below it the gateway accepts no mail (its default low-water mark).
LOW_WATER = 128 * 1024 * 1024
#: Seconds within which a second signal counts as a duplicate: `timeout` and shells send two.
ECHO = 1.0
#: Seconds that a reload may take before a failure is reported, and between two polls.
RELOAD_PATIENCE = 3.0
RELOAD_POLL = 0.05
#: Seconds between two checks of the files, each a few stat calls.
FILES_INTERVAL = 0.3

Fingerprint = tuple[tuple[str, int, int, int], ...]


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--data", type=click.Path(path_type=Path), help="Folder for queue, log and secrets.")
@click.option("--relay", help="MailRelay to run, NS/NAME, if the files contain several.")
@click.option("--bind", default="127.0.0.1", show_default=True, help="Address of the listeners.")
@click.option(
    "--admin",
    default="127.0.0.1:8025",
    show_default=True,
    help="HOST:PORT of the admin port (metrics and status).",
)
@click.option(
    "--allow-egress",
    "allowed_egress",
    multiple=True,
    metavar="CIDR",
    help="Network that URLs in the files (token endpoints) may lead to, besides public addresses;"
    " repeatable. 127.0.0.0/8 is this machine.",
)
@click.option(
    "--egress-proxy",
    default="",
    metavar="URL",
    help="HTTP proxy (http://HOST:PORT) for such URLs with public addresses.",
)
@click.option(
    "--tokens",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder with ServiceAccount tokens for the OAuth2 flow Federated.",
)
@click.option(
    "--logs",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="text: short lines on stdout, JSON in DIR/gateway.log; json: JSON on stdout.",
)
def up(
    files: tuple[str, ...],
    data: Path | None,
    relay: str | None,
    bind: str,
    admin: str,
    allowed_egress: tuple[str, ...],
    egress_proxy: str,
    tokens: Path | None,
    logs: str,
) -> None:
    """Run a relay on this machine, from the same YAML as for a cluster.

    FILE is a YAML file, a folder of YAML files, or - for standard input. Edits take effect at
    once. Ctrl-C stops the relay; accepted mail stays in the data folder.

    Exit code 0: stopped. 2: files or arguments are not valid. 3: a port is in use. 4: the data
    folder or its disk is unusable. 5: the stop took too long.
    """
    option = "--bind"
    try:
        bind = resolve_here(parse_host(bind))
        option = "--admin"
        admin_host, admin_port = parse_host_port(admin)
        admin_host = resolve_here(admin_host)
        option = "--allow-egress"
        egress = Egress(
            allowed=tuple(str(ip_network(network)) for network in allowed_egress),
            proxy=egress_proxy,
        )
    except ValueError as error:
        raise NotUsable(f"{option}: {error}.") from None
    stdin = read_stdin(files)
    try:
        inventory = read_inventory(files, stdin=stdin, note=_note)
    except FilesUnusable as error:
        raise _everything(files, stdin, error.problems) from None
    try:
        key = choose_relay(inventory, relay)
    except ValueError as error:
        raise NotUsable(str(error)) from None
    standalone = Standalone(
        relay=key, bind=bind, admin_host=admin_host, admin_port=admin_port, egress=egress
    )
    # Before the folder is created: a mistake in the files should leave nothing behind.
    try:
        standalone.refuse_unsupported(inventory)
    except FilesUnusable as error:
        raise _everything(files, stdin, error.problems) from None
    folder = folder_of_relay(data, *key)
    with folder.locked():
        picture = standalone.plan(inventory, folder.secrets(), now=datetime.now(UTC))
        if picture.problems:
            raise _everything(files, stdin, picture.problems)
        if taken := standalone.taken_by_admin(picture):
            raise NotUsable(taken)
        run = _Run(files, stdin, key, standalone, folder, as_json=logs == "json", tokens=tokens)
        run.put(picture)
        hints = hint_text(
            picture.endpoint,
            data=str(folder.path),
            ca_file=str(folder.ca_file) if picture.authority else "",
            program=program(),
            show_secrets=(sys.stderr if logs == "json" else sys.stdout).isatty(),
        )
        code = asyncio.run(run.until_stopped(picture, hints))
    sys.exit(code)


class _Run:
    """One run of the gateway, from its first configuration to its exit code."""

    def __init__(
        self,
        files: Sequence[str],
        stdin: str | None,
        relay: Key,
        standalone: Standalone,
        folder: DataFolder,
        *,
        as_json: bool,
        tokens: Path | None,
    ) -> None:
        self._tokens = tokens
        self._files = files
        self._stdin = stdin
        self._relay = relay
        self._standalone = standalone
        self._folder = folder
        self._as_json = as_json
        self._seen = _fingerprint(files)
        self._look_again_at = datetime.now(UTC) + REPLAN_EVERY

    def put(self, picture: Picture) -> bool:
        """Write the picture; whether the gateway's configuration changed."""
        for warning in picture.warnings:
            _note(warning)
        self._look_again_at = picture.look_again_at or self._look_again_at
        return self._standalone.put(picture, self._folder)

    async def until_stopped(self, picture: Picture, hints: str) -> int:
        """Start the gateway, print the hints, keep it current, stop it; its exit code."""
        stop, hurry = _stop_signals()
        gateway = await GatewayProcess.start(
            Command(
                config=self._folder.config,
                spool=self._folder.spool,
                bind=self._standalone.bind,
                admin=self._standalone.admin,
                tokens=self._tokens,
                log_to_stdout=self._as_json,
            )
        )
        speaker = _Speaker(None if self._as_json else LogFile(self._folder.log))
        log = asyncio.create_task(gateway.follow_log(speaker.take))
        ended = asyncio.create_task(gateway.wait())
        stopping = asyncio.create_task(stop.wait())
        try:
            ready = asyncio.create_task(gateway.until_ready(picture.endpoint.admin, picture.digest))
            await asyncio.wait({ready, ended, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not ended.done() and not stop.is_set():
                click.echo(hints, err=self._as_json)
                if not ready.result():
                    _note("The gateway is not ready yet: reading a large queue takes a while.")
                self._warn_when_full()
                speaker.speak()
                keeping = asyncio.create_task(self._keep_current(gateway))
                await asyncio.wait({ended, stopping}, return_when=asyncio.FIRST_COMPLETED)
                keeping.cancel()
        finally:  # on any error (such as a closed terminal), leave no gateway behind
            if not ended.done():
                _note(_STOPPING)
                await gateway.stop(hurry.wait())
            code = await ended
            await log
            speaker.close()
        if hurry.is_set():
            return 130
        if not stop.is_set() and (why := why_ended(code)):
            _note(f"{why} Accepted mail is in {self._folder.spool}; start again to deliver it.")
        return code

    def _warn_when_full(self) -> None:
        free = shutil.disk_usage(self._folder.path).free
        if free < LOW_WATER:
            _note(
                f"Only {free >> 20} MiB are free in {self._folder.path}; below"
                f" {LOW_WATER >> 20} MiB no mail is accepted (452), but queued mail is delivered."
                " Free some space."
            )

    async def _keep_current(self, gateway: GatewayProcess) -> None:
        """Plan again whenever a file changes or the plan requires it."""
        while True:
            await asyncio.sleep(FILES_INTERVAL)
            fingerprint = _fingerprint(self._files)
            edited = fingerprint != self._seen
            if not edited and datetime.now(UTC) < self._look_again_at:
                continue
            self._seen = fingerprint
            self._look_again_at = datetime.now(UTC) + REPLAN_EVERY
            try:
                picture = await asyncio.to_thread(self._replan, edited)
            except Exception as error:  # the gateway keeps running
                _note(
                    f"Internal error ({type(error).__name__}: {error}); please report it."
                    f" {_KEPT.capitalize()}"
                )
                continue
            if picture is not None:
                gateway.reload()
                _note(await asyncio.to_thread(_what_became_of, picture))

    def _replan(self, edited: bool) -> Picture | None:
        """Plan and write the current files; the picture if the gateway has to reload."""
        try:
            inventory = read_inventory(self._files, stdin=self._stdin, note=None)
            if self._relay not in inventory.relays:
                _note(f"MailRelay {'/'.join(self._relay)} is no longer in the files; {_KEPT}")
                return None
            self._standalone.refuse_unsupported(inventory)
            picture = self._standalone.plan(
                inventory, self._folder.secrets(), now=datetime.now(UTC)
            )
        except FilesUnusable as error:
            self._say_problems(error.problems)
            return None
        if picture.problems:
            self._say_problems(picture.problems)
            return None
        if taken := self._standalone.taken_by_admin(picture):
            _note(f"{taken} {_KEPT.capitalize()}")
            return None
        try:
            changed = self.put(picture)
        except FolderUnusable as error:
            _note(f"{error} {_KEPT.capitalize()}")
            return None
        if edited and not changed:
            _note("The edit does not change the running configuration.")
        return picture if changed else None

    def _say_problems(self, problems: Sequence[FileProblem]) -> None:
        """Report all problems, not only the first."""
        _say(str(_everything(self._files, self._stdin, problems)))
        _note(_KEPT.capitalize())


_STOPPING = (
    "Stopping: deliveries in progress are completed, the rest stays queued (Ctrl-C again to stop"
    " at once)."
)
_KEPT = "the last good configuration stays in effect."


class _Speaker:
    """Passes on the gateway's log lines: to the file at once, to the terminal after the hints."""

    def __init__(self, file: LogFile | None) -> None:
        self._file = file
        self._terminal: Terminal | None = None
        self._early: list[bytes] = []

    def take(self, lines: list[bytes]) -> None:
        if self._file is not None:
            self._file.write(b"".join(line + b"\n" for line in lines))
        if self._terminal is None:
            self._early += lines
            return
        for line in lines:
            self._terminal.line(humanize(line))

    def speak(self) -> None:
        """Show the lines so far, and all from now on."""
        self._terminal = Terminal(sys.stderr)
        early, self._early = self._early, []
        for line in early:
            self._terminal.line(humanize(line))

    def close(self) -> None:
        if self._terminal is not None:
            self._terminal.close()
        if self._file is not None:
            self._file.close()


def _what_became_of(picture: Picture) -> str:
    """Wait until the gateway runs the new configuration; a sentence with the result."""
    deadline = time.monotonic() + RELOAD_PATIENCE
    while True:
        if picture.endpoint.admin.runs(picture.digest):
            return " ".join(["The change is in effect.", *_not_serving(picture)])
        if time.monotonic() >= deadline:
            break
        time.sleep(RELOAD_POLL)
    with contextlib.suppress(AdminUnreachable):
        if problem := picture.endpoint.admin.status().problem:
            return f"The gateway refused the change: {problem} {_KEPT.capitalize()}"
    return "The gateway has not loaded the change yet; see its log."


def _not_serving(picture: Picture) -> tuple[str, ...]:
    """The gateway's messages about listeners whose port it cannot bind yet."""
    with contextlib.suppress(AdminUnreachable):
        if sentences := picture.endpoint.admin.status().not_serving:
            return (*sentences, "It is retried until it succeeds.")
    return ()


def _everything(
    files: Sequence[str], stdin: str | None, problems: Sequence[FileProblem]
) -> FilesUnusable:
    """All problems that `mailrelay check` finds, not only the first."""
    found = examine(read_files(files, stdin=stdin), now=datetime.now(UTC)).problems
    return FilesUnusable(found or problems)


def _stop_signals() -> tuple[asyncio.Event, asyncio.Event]:
    """Events set by signals: stop by the first one, hurry by a later one.

    Closing the terminal (SIGHUP) stops the program too, unless SIGHUP is ignored (nohup).
    """
    loop = asyncio.get_running_loop()
    stop, hurry = asyncio.Event(), asyncio.Event()
    asked_at: list[float] = []

    def asked() -> None:
        asked_at.append(loop.time())
        if asked_at[-1] - asked_at[0] > ECHO:
            hurry.set()
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number is signal.SIGINT or signal.getsignal(number) is not signal.SIG_IGN:
            loop.add_signal_handler(number, asked)
    return stop, hurry


def _fingerprint(names: Sequence[str]) -> Fingerprint:
    """Changes when a file is edited, replaced, added or removed."""
    seen = []
    with contextlib.suppress(FilesUnusable, OSError):
        for name in files_of(names):
            try:
                found = Path(name).stat()
            except OSError:
                continue
            seen.append((name, found.st_ino, found.st_size, found.st_mtime_ns))
    return tuple(seen)


def _note(text: str) -> None:
    """Print a message of this program."""
    _say(f"mailrelay: {text}")


def _say(text: str) -> None:
    """Print lines unchanged; a closed terminal is not an error."""
    with contextlib.suppress(OSError):
        click.echo(text, err=True)
