"""`mailrelay check`: reports every problem in the files, without running anything.

Checks the files, the API's rules, unsupported fields, and what the plan reports about references,
certificates, logins and admission: the same as in a cluster.
"""

from __future__ import annotations

from datetime import UTC, datetime

import click

from mailrelay_operator.api.mailrelay import MailRelay
from mailrelay_operator.cli.checking import Findings, examine
from mailrelay_operator.cli.documents import FilesUnusable, read_files, read_stdin
from mailrelay_operator.cli.presets import preset_lines
from mailrelay_operator.cli.reading import say_ignored
from mailrelay_operator.cli.stop import NotUsable


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
def check(files: tuple[str, ...]) -> None:
    """Find every problem in the files, without running anything.

    FILE is a YAML file, a folder of YAML files, or - for standard input. Each problem is a line
    on stderr that begins with FILE:LINE.

    Valid files are counted on stdout, and what the preset of an upstream's provider sets is shown.

    Exit code 0: the files are valid. 2: they are not.
    """
    findings = examine(read_files(files, stdin=read_stdin(files)), now=datetime.now(UTC))
    say_ignored(findings.inventory, lambda text: click.echo(f"mailrelay: {text}", err=True))
    for warning in findings.warnings:
        click.echo(str(warning), err=True)
    if findings.problems:
        raise FilesUnusable(findings.problems)
    found = _counted(findings)
    if not found:
        raise NotUsable("The files contain no MailRelay, MailSender or MailDomain.")
    click.echo(f"OK: {found}.")
    for model in findings.inventory.models.values():
        if isinstance(model, MailRelay):
            for line in preset_lines(model):
                click.echo(line)


def _counted(findings: Findings) -> str:
    inventory = findings.inventory
    counts = {
        "MailRelay": len(inventory.relays),
        "MailSender": len(inventory.senders),
        "MailDomain": len(inventory.domains),
    }
    return ", ".join(
        f"{count} {kind}{'s' if count > 1 else ''}" for kind, count in counts.items() if count
    )
