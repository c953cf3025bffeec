"""From the command line's FILE... to an Inventory: reading and sorting, joined for all commands."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mailrelay_operator.cli.documents import read_documents
from mailrelay_operator.cli.inventory import Inventory, take_inventory


def read_inventory(
    files: Sequence[str], *, stdin: str | None = None, note: Callable[[str], None] | None
) -> Inventory:
    """What the files hold; FilesUnusable. `note` is told of kinds that mean nothing here."""
    inventory = take_inventory(read_documents(files, stdin=stdin))
    if inventory.ignored and note is not None:
        note(f"Not used here: {', '.join(inventory.ignored)}.")
    return inventory
