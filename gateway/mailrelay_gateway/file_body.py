"""A message's body in a file, in which intake passes large bodies to the queue."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path


class FileBody:
    """A body in a file of its own (a StoredBody)."""

    __slots__ = ("path", "size")

    def __init__(self, path: Path, size: int) -> None:
        """`size` is the expected size of the file, which readers check."""
        self.path = path
        self.size = size

    def __repr__(self) -> str:
        """The path and the size."""
        return f"FileBody({self.path}, {self.size})"

    def chunks(self, octets: int) -> Iterator[bytes]:
        """See StoredBody."""
        with self.path.open("rb") as file:
            while chunk := file.read(octets):
                yield chunk
