"""Chooses the data folder of a command: the one given, the only one, or the only one with a
running relay.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from mailrelay_operator.cli.folder import MARK, DataFolder, FolderUnusable, default_folder


def folder_of_relay(data: Path | None, namespace: str, name: str) -> DataFolder:
    """The folder of a relay, created if missing; raises FolderUnusable."""
    path = data or default_folder(namespace, name, environ=os.environ, home=Path.home())
    return DataFolder.create(path, relay=f"{namespace}/{name}")


def find_folder(data: Path | None) -> DataFolder:
    """The folder given, or the default one; raises FolderUnusable."""
    return DataFolder.find(data or _default())


def _default() -> Path:
    root = default_folder("x", "y", environ=os.environ, home=Path.home()).parent
    return choose(root, sorted(path.parent for path in root.glob(f"*/{MARK}")))


def choose(root: Path, found: Sequence[Path]) -> Path:
    """The only data folder below `root`, or the only one with a running relay."""
    if len(found) == 1:
        return found[0]
    if not found:
        raise FolderUnusable(
            f"{root} contains no data folder: start a relay with `mailrelay up FILE...`, or give"
            f" its"
            " folder with --data."
        )
    running = [path for path in found if DataFolder(path, relay="").is_locked()]
    if len(running) == 1:
        return running[0]
    raise FolderUnusable(
        f"{root} contains {len(found)} data folders, {len(running) or 'none'} with a running"
        f" relay; choose one with --data: " + ", ".join(str(path) for path in found) + "."
    )
