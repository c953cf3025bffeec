"""From the command line's FILE... to an Inventory: reading and sorting, joined for all commands."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mailrelay_operator.cli.documents import FilesUnusable, read_files
from mailrelay_operator.cli.inventory import Inventory, sort_documents


def read_inventory(
    files: Sequence[str], *, stdin: str | None = None, note: Callable[[str], None] | None
) -> Inventory:
    """What the files hold; FilesUnusable names everything that is wrong with any of them. `note`
    is told of kinds that mean nothing here."""
    reading = read_files(files, stdin=stdin)
    found = sort_documents(reading.documents)
    problems = (*reading.problems, *found.problems)
    if problems:
        raise FilesUnusable(problems)
    say_ignored(found.inventory, note)
    return found.inventory


def say_ignored(inventory: Inventory, note: Callable[[str], None] | None) -> None:
    """Name the objects of other kinds, if there are any."""
    if inventory.ignored and note is not None:
        note(f"Not used here: {', '.join(inventory.ignored)}.")
