"""Which data folder a command means: the one that was named, or the only one that there is."""

from __future__ import annotations

import os
from pathlib import Path

from mailrelay_operator.cli.folder import MARK, DataFolder, FolderUnusable, default_folder


def folder_of_relay(data: Path | None, namespace: str, name: str) -> DataFolder:
    """The folder of a relay, made where it is missing; FolderUnusable."""
    path = data or default_folder(namespace, name, environ=os.environ, home=Path.home())
    return DataFolder.create(path, relay=f"{namespace}/{name}")


def find_folder(data: Path | None) -> DataFolder:
    """The folder that was named, or the only default one; FolderUnusable."""
    return DataFolder.find(data or _only_default())


def _only_default() -> Path:
    root = default_folder("x", "y", environ=os.environ, home=Path.home()).parent
    found = sorted(path.parent for path in root.glob(f"*/{MARK}"))
    if len(found) == 1:
        return found[0]
    if not found:
        raise FolderUnusable(
            f"{root} holds no data folder: start a relay with `mailrelay up FILE...`, or name its"
            " folder with --data."
        )
    raise FolderUnusable(
        f"{root} holds {len(found)} data folders; choose one with --data: "
        + ", ".join(str(path) for path in found)
        + "."
    )
