"""The configuration folder: reads the files of GatewayConfig, and detects changes.

A mounted Secret changes by swapping a symbolic link, a manual edit by renaming a file: comparing
inode, size and mtime detects both in microseconds, and does not depend on notifications, which some
volumes do not send.
"""

from __future__ import annotations

from pathlib import Path

from mailrelay_gateway.contract.files import FILE_NAME, MAX_FILE_OCTETS, ConfigError, file_names

Fingerprint = tuple[tuple[str, int, int, int], ...]


class Unreadable(ConfigError):
    """A file that cannot be read, perhaps only temporarily: no descriptors, a slow mount."""


class ConfigFolder:
    """The folder `--config`: `relay/v1.json.gz` and up to 16 `senders-NN/v1.json.gz`."""

    def __init__(self, path: Path) -> None:
        """Use this folder, which need not exist yet."""
        self.path = path

    def fingerprint(self) -> Fingerprint:
        """A value that changes when any of the files does."""
        seen = []
        for name in file_names():
            try:
                found = (self.path / name / FILE_NAME).stat()
            except OSError:
                continue
            seen.append((name, found.st_ino, found.st_size, found.st_mtime_ns))
        return tuple(seen)

    def read(self) -> dict[str, bytes]:
        """The octets of the existing files; raises ConfigError for one that is too large,
        Unreadable for one that cannot be read.
        """
        files = {}
        for name in file_names():
            path = self.path / name / FILE_NAME
            try:
                with path.open("rb") as file:
                    octets = file.read(MAX_FILE_OCTETS + 1)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise Unreadable(name, f"{path} cannot be read: {error.strerror}") from None
            if len(octets) > MAX_FILE_OCTETS:
                raise ConfigError(name, f"{path} is larger than {MAX_FILE_OCTETS} octets")
            files[name] = octets
        return files
