"""Finds unsupported fields in files, with file and line."""

from __future__ import annotations

from collections.abc import Iterator

from mailrelay_operator.api.unsupported import unsupported_fields, unsupported_remedy
from mailrelay_operator.cli.documents import FileProblem
from mailrelay_operator.cli.inventory import Inventory, Place


def find_unsupported(inventory: Inventory) -> Iterator[tuple[Place, FileProblem]]:
    """One problem per field, with the object that uses it."""
    for place, model in inventory.models.items():
        for path in unsupported_fields(model):
            document = inventory.documents[place]
            if path.startswith("spec"):
                yield place, document.problem(unsupported_remedy(path), path)
            else:
                sentence = f"{document.kind} is not supported in this version: remove the object."
                yield place, document.problem(sentence, "kind")
