"""Reads the command line's FILE... into an Inventory, for all commands."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mailrelay_operator.cli.documents import FilesUnusable, read_files
from mailrelay_operator.cli.inventory import Inventory, sort_documents


def read_inventory(
    files: Sequence[str], *, stdin: str | None = None, note: Callable[[str], None] | None
) -> Inventory:
    """The objects in the files; raises FilesUnusable with all problems. `note` receives a message
    about kinds that are not used."""
    reading = read_files(files, stdin=stdin)
    found = sort_documents(reading.documents)
    problems = (*reading.problems, *found.problems)
    if problems:
        raise FilesUnusable(problems)
    say_ignored(found.inventory, note)
    return found.inventory


def say_ignored(inventory: Inventory, note: Callable[[str], None] | None) -> None:
    """Name the objects of other kinds, if any."""
    if inventory.ignored and note is not None:
        note(f"Not used here: {', '.join(inventory.ignored)}.")
