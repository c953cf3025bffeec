"""Which data folder a command means: the one that was named, the only one that there is, or the
only one in which a relay runs.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from mailrelay_operator.cli.folder import MARK, DataFolder, FolderUnusable, default_folder


def folder_of_relay(data: Path | None, namespace: str, name: str) -> DataFolder:
    """The folder of a relay, made where it is missing; FolderUnusable."""
    path = data or default_folder(namespace, name, environ=os.environ, home=Path.home())
    return DataFolder.create(path, relay=f"{namespace}/{name}")


def find_folder(data: Path | None) -> DataFolder:
    """The folder that was named, or the default one that is meant; FolderUnusable."""
    return DataFolder.find(data or _default())


def _default() -> Path:
    root = default_folder("x", "y", environ=os.environ, home=Path.home()).parent
    return choose(root, sorted(path.parent for path in root.glob(f"*/{MARK}")))


def choose(root: Path, found: Sequence[Path]) -> Path:
    """Of the data folders below `root` the only one, or the only one in which a relay runs."""
    if len(found) == 1:
        return found[0]
    if not found:
        raise FolderUnusable(
            f"{root} holds no data folder: start a relay with `mailrelay up FILE...`, or name its"
            " folder with --data."
        )
    running = [path for path in found if DataFolder(path, relay="").is_locked()]
    if len(running) == 1:
        return running[0]
    raise FolderUnusable(
        f"{root} holds {len(found)} data folders, and a relay runs in"
        f" {len(running) or 'none'} of them; choose one with --data: "
        + ", ".join(str(path) for path in found)
        + "."
    )
