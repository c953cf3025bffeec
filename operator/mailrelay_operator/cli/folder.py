"""The data folder of one standalone relay: generated Secrets, the gateway's configuration, its
spool.

Names, modes, durable writes, and the lock. Secrets are stored as the objects that the operator
would create, so that the plan has the same facts as in a cluster. Folders are 0700 and files 0600,
since they contain private keys and passwords.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

#: Raised when a newer `mailrelay up` writes what an older one cannot read.
SCHEMA = 1
MARK = "mailrelay.json"

Json = dict[str, Any]


class FolderUnusable(Exception):
    """The data folder is unusable; the text names it and says what to do."""


def default_folder(namespace: str, name: str, *, environ: Mapping[str, str], home: Path) -> Path:
    """`~/.local/state/mailrelay/NS.NAME`, or below $XDG_STATE_HOME if that is set."""
    state = environ.get("XDG_STATE_HOME", "")
    root = Path(state) if state.startswith("/") else home / ".local" / "state"
    return root / "mailrelay" / f"{namespace}.{name}"


class DataFolder:
    """One relay's folder. `create` creates and marks it, `find` opens an existing one."""

    def __init__(self, path: Path, *, relay: str) -> None:
        """Use `create` or `find`; `relay` is `NS/NAME`."""
        self.path = path
        self.relay = relay

    @classmethod
    def create(cls, path: Path, *, relay: str) -> DataFolder:
        """Open the folder of `relay`, creating it if missing; refuses a folder of another relay."""
        with _explaining(path):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder = cls(path.resolve(), relay=relay)
            mark = folder._read_mark()
            if mark is None:
                if any(folder.path.iterdir()):
                    raise FolderUnusable(
                        f"{path} contains other files; choose an empty or new folder with --data."
                    )
                folder.path.chmod(0o700)
                folder.write(MARK, _as_json({"schema": SCHEMA, "relay": relay}))
            elif mark != relay:
                raise FolderUnusable(
                    f"{path} belongs to MailRelay {mark}, not {relay}; choose another folder with"
                    " --data, since two relays cannot share a spool."
                )
            return folder

    @classmethod
    def find(cls, path: Path) -> DataFolder:
        """Open a folder that `mailrelay up` created."""
        with _explaining(path):
            folder = cls(path, relay="")
            mark = folder._read_mark()
        if mark is None:
            raise FolderUnusable(
                f"{path} is not a mailrelay data folder; create one with"
                f" `mailrelay up FILE... --data {path}`, or choose the right one with --data."
            )
        folder.relay = mark
        return folder

    @property
    def config(self) -> Path:
        """Where the gateway reads its configuration."""
        return self.path / "config"

    @property
    def spool(self) -> Path:
        """The gateway's queue."""
        return self.path / "spool"

    @property
    def log(self) -> Path:
        """The gateway's log, JSON lines."""
        return self.path / "gateway.log"

    @property
    def ca_file(self) -> Path:
        """The certificates that clients trust, PEM."""
        return self.path / "ca.crt"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the folder for one `mailrelay up`; the kernel releases it when the process ends."""
        with _explaining(self.path):
            lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise FolderUnusable(
                    f"{self.path} is in use by another `mailrelay up`; stop that one, or choose"
                    " another folder with --data."
                ) from None
            yield
        finally:
            os.close(lock)

    def is_locked(self) -> bool:
        """Whether a `mailrelay up` runs in it."""
        try:
            lock = os.open(self.path / "lock", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(lock)
        return False

    def write(self, name: str, content: bytes) -> bool:
        """Replace a file atomically and durably, 0600; False if it is unchanged.

        After a power failure the file has either the old or the new content.
        """
        target = self.path / name
        with _explaining(self.path):
            with contextlib.suppress(FileNotFoundError):
                if target.read_bytes() == content:
                    return False
            self._make_private(target.parent)
            part = target.with_name(f".{target.name}.part")
            file = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            try:
                with open(file, "wb", closefd=True) as stream:
                    stream.write(content)
                    stream.flush()
                    os.fsync(stream.fileno())
                part.rename(target)
            except OSError:
                part.unlink(missing_ok=True)
                raise
            _sync_folder(target.parent)
        return True

    def remove(self, name: str) -> None:
        """Remove a file if it exists."""
        with _explaining(self.path):
            (self.path / name).unlink(missing_ok=True)

    def read_json(self, name: str) -> Json | None:
        """A JSON object; None if the file does not exist. Raises FolderUnusable if it is
        damaged.
        """
        with _explaining(self.path):
            try:
                value = json.loads((self.path / name).read_bytes())
            except FileNotFoundError:
                return None
            except ValueError as error:
                raise FolderUnusable(
                    f"{self.path / name} is damaged ({error}); restore it from a backup, or remove"
                    " it to have its content re-created."
                ) from None
        return value if isinstance(value, dict) else None

    def write_json(self, name: str, value: Mapping[str, Any]) -> bool:
        """Replace a JSON file; False if it is unchanged."""
        return self.write(name, _as_json(value))

    def secrets(self) -> tuple[Json, ...]:
        """All generated Secrets, as Kubernetes objects."""
        found = sorted((self.path / "secrets").glob("*/*.json"))
        kept = (self.read_json(str(path.relative_to(self.path))) for path in found)
        return tuple(secret for secret in kept if secret is not None)

    def keep_secret(self, secret: Mapping[str, Any]) -> bool:
        """Store a generated Secret; False if it is unchanged."""
        metadata = secret["metadata"]
        return self.write_json(f"secrets/{metadata['namespace']}/{metadata['name']}.json", secret)

    def _make_private(self, path: Path) -> None:
        """Create a subfolder and its parents with mode 0700, unlike `mkdir(parents=True)`."""
        for missing in reversed([one for one in (path, *path.parents) if not one.exists()]):
            missing.mkdir(mode=0o700, exist_ok=True)

    def _read_mark(self) -> str | None:
        mark = self.read_json(MARK)
        if mark is None:
            return None
        schema = mark.get("schema")
        if not isinstance(schema, int) or schema > SCHEMA:
            raise FolderUnusable(
                f"{self.path} was written by a newer mailrelay (schema {schema}, this one reads up"
                f" to {SCHEMA}); upgrade mailrelay, or choose another folder with --data."
            )
        return str(mark.get("relay", ""))


def _as_json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, indent=2, sort_keys=True).encode() + b"\n"


def _sync_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextlib.contextmanager
def _explaining(path: Path) -> Iterator[None]:
    """Turn errors of the file system into sentences."""
    try:
        yield
    except OSError as error:
        where = error.filename or path
        match error.errno:
            case errno.ENOSPC | errno.EDQUOT:
                advice = "no space left; free some, or choose another folder with --data."
            case errno.EACCES | errno.EPERM | errno.EROFS:
                advice = "permission denied; correct owner and mode, or choose another with --data."
            case errno.ENOTDIR | errno.EEXIST:
                advice = "not a folder but a file; choose a folder with --data."
            case _:
                advice = f"{error.strerror}; choose another folder with --data."
        raise FolderUnusable(f"{where}: {advice}") from error
