"""`mailrelay status`: shows the status of a running gateway as a table.

Presentation only; the figures come from the gateway.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mailrelay_gateway.contract.moments import parse_rfc3339
from mailrelay_gateway.contract.status import GatewayStatus, UpstreamState
from mailrelay_operator.cli.admin import AdminUnreachable
from mailrelay_operator.cli.endpoint import Endpoint, read_endpoint
from mailrelay_operator.cli.folders import find_folder
from mailrelay_operator.cli.loglines import printable
from mailrelay_operator.cli.stop import NotAccepted

_STYLES = {UpstreamState.UP: "green", UpstreamState.HELD: "red", UpstreamState.UNKNOWN: "yellow"}


@click.command()
@click.option("--data", type=click.Path(path_type=Path), help="Data folder of `mailrelay up`.")
@click.option("--json", "as_json", is_flag=True, help="Print the gateway's answer as JSON.")
def status(data: Path | None, as_json: bool) -> None:
    """Show the queue and the upstreams.

    Exit code 0: success. 1: the gateway did not answer. 4: there is no such data folder.
    """
    endpoint = read_endpoint(find_folder(data))
    try:
        answer = endpoint.admin.status()
    except AdminUnreachable as error:
        raise NotAccepted(str(error)) from None
    if as_json:
        click.echo(answer.model_dump_json(by_alias=True, indent=2))
        return
    console = Console(highlight=False)
    now = datetime.now(UTC)
    console.print(summary_table(endpoint, answer, now=now))
    console.print(upstreams_table(answer, now=now))


def summary_table(endpoint: Endpoint, answer: GatewayStatus, *, now: datetime) -> Table:
    """The relay and its queue, one row each."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    mail = "accepted, delivered" if answer.accepting else "not accepted"
    if answer.accepting and answer.suspended:
        mail = "accepted, not delivered (suspended)"
    table.add_row("MailRelay", endpoint.relay)
    table.add_row("Version", f"{answer.version}, up for {age(answer.started_at, now=now)}")
    table.add_row("Mail", mail)
    table.add_row("Listeners", ", ".join(answer.listeners) or "none")
    for sentence in answer.not_serving:
        table.add_row("", Text(printable(sentence)), style="red")
    waiting = f"{answer.queue.messages} messages" if answer.queue.messages != 1 else "1 message"
    if answer.queue.oldest:
        waiting += f", the oldest for {age(answer.queue.oldest, now=now)}"
    table.add_row("Queue", waiting)
    table.add_row("Dead letters", str(answer.queue.dead_letters))
    if answer.problem:
        table.add_row("Problem", Text(printable(answer.problem)), style="red")
    return table


def upstreams_table(answer: GatewayStatus, *, now: datetime) -> Table:
    """One row per upstream; a held one shows its reply."""
    table = Table("Upstream", "State", "Since", "Reason", "Message")
    for upstream in answer.upstreams:
        table.add_row(
            upstream.name,
            str(upstream.state),
            age(upstream.since, now=now),
            upstream.reason,
            Text(printable(upstream.message)),  # no markup: untrusted text
            style=_STYLES.get(upstream.state),
        )
    return table


def age(time: str, *, now: datetime) -> str:
    """How long ago an RFC 3339 time was: `42s`, `5m`, `3h`, `2d`; "" for none."""
    moment = parse_rfc3339(time)
    if moment is None:
        return ""
    seconds = int((now - moment).total_seconds())
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{max(seconds, 0)}s"
