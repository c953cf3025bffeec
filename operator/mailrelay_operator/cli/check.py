"""`mailrelay check`: names everything that would keep files from running, and runs nothing.

The files, the API's rules, the fields that do not act yet, and what the plan says of references and
admission: the same as in a cluster.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime

import click

from mailrelay_operator.cli.documents import STDIN
from mailrelay_operator.cli.inventory import Inventory
from mailrelay_operator.cli.reading import read_inventory
from mailrelay_operator.cli.standalone import Standalone
from mailrelay_operator.cli.stop import NotUsable
from mailrelay_operator.cli.unsupported import find_unsupported


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
def check(files: tuple[str, ...]) -> None:
    """Name every problem in the files and every field that does not act yet.

    Exit code 0: they can be used. 2: they cannot, and each reason is a line.
    """
    stdin = sys.stdin.read() if STDIN in files else None
    inventory = read_inventory(files, stdin=stdin, note=_note)
    problems = find_all(inventory, now=datetime.now(UTC))
    if problems:
        raise NotUsable("\n".join(problems))
    counts = {
        "MailRelay": inventory.relays,
        "MailSender": inventory.senders,
        "MailDomain": inventory.domains,
    }
    found = ", ".join(
        f"{len(objects)} {kind}{'s' if len(objects) > 1 else ''}"
        for kind, objects in counts.items()
        if objects
    )
    click.echo(f"Well: {found or 'nothing of ours in these files'}.")


def find_all(inventory: Inventory, *, now: datetime) -> list[str]:
    """Every sentence there is to say; what is minted to find them is thrown away."""
    problems = [str(problem) for problem in find_unsupported(inventory)]
    if problems:
        return problems
    for relay in sorted(inventory.relays):
        standalone = Standalone(relay=relay, bind="", admin_host="", admin_port=0)
        problems += standalone.plan(inventory, (), now=now).problems
    for key, sender in sorted(inventory.senders.items()):
        reference = sender["spec"]["relayRef"]
        relay = reference.get("namespace") or key[0], reference["name"]
        if inventory.relays and relay not in inventory.relays:
            document = inventory.documents["MailSender", key]
            sentence = f"MailRelay {'/'.join(relay)} is not in these files."
            problems.append(str(document.problem(sentence, "spec.relayRef.name")))
    return problems


def _note(text: str) -> None:
    click.echo(f"mailrelay: {text}", err=True)
