"""Fields that do not act yet, found in files: the operator's words, with the place in the file."""

from __future__ import annotations

from collections.abc import Iterator

from mailrelay_operator.api.parsing import Resource, parse
from mailrelay_operator.api.unsupported import unsupported_fields, unsupported_message
from mailrelay_operator.cli.documents import FileProblem
from mailrelay_operator.cli.inventory import Inventory


def find_unsupported(inventory: Inventory) -> Iterator[FileProblem]:
    """One problem for each object that uses fields which do not act yet, naming them all."""
    objects = [
        *(("MailRelay", key, one) for key, one in inventory.relays.items()),
        *(("MailSender", key, one) for key, one in inventory.senders.items()),
        *(("MailDomain", key, one) for key, one in inventory.domains.items()),
    ]
    for kind, key, manifest in objects:
        resource: Resource = parse(manifest)
        fields = unsupported_fields(resource)
        if fields:
            document = inventory.documents[kind, key]
            path = fields[0] if fields[0].startswith("spec") else ""
            problem = document.problem(f"Unsupported: {unsupported_message(fields)}", path)
            yield FileProblem(
                file=problem.file,
                document=problem.document,
                line=problem.line,
                subject=problem.subject,
                sentence=problem.sentence,
            )
