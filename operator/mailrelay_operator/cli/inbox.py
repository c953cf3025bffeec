"""`mailrelay inbox`: lists or shows the mail that a sandbox upstream captured.

The gateway stores the mail; this only shows it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from datetime import tzinfo
from pathlib import Path
from typing import Any

import click

from mailrelay_gateway.contract.moments import parse_rfc3339
from mailrelay_operator.cli.admin import AdminUnreachable
from mailrelay_operator.cli.endpoint import Endpoint, read_endpoint
from mailrelay_operator.cli.folders import find_folder
from mailrelay_operator.cli.loglines import cut, printable
from mailrelay_operator.cli.stop import NotAccepted, NotUsable

#: The gateway's limit for one list.
MAX_LISTED = 1000
#: Widths of columns, so that a message is one line on a terminal.
WIDTHS = {"ID": 6, "RECEIVED": 19, "FROM": 30, "TO": 30, "SIZE": 8}
#: Header fields shown above the text, in this order.
FIELDS = ("From", "To", "Cc", "Subject", "Date", "Message-ID")

_data = click.option(
    "--data", type=click.Path(path_type=Path), help="Data folder of `mailrelay up`."
)


@click.group()
def inbox() -> None:
    """Show the mail that a sandbox upstream captured."""


@inbox.command("list")
@_data
@click.option(
    "--limit",
    type=click.IntRange(1, MAX_LISTED),
    default=20,
    show_default=True,
    help="Number of messages to list.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one message per line.")
def list_(data: Path | None, limit: int, as_json: bool) -> None:
    """List captured messages, newest first.

    Exit code 0: success. 1: the gateway did not answer. 4: there is no such data folder.
    """
    endpoint = read_endpoint(find_folder(data))
    try:
        captured = endpoint.admin.captured(limit)
    except AdminUnreachable as error:
        raise NotAccepted(str(error)) from None
    if as_json:
        for message in captured:
            click.echo(json.dumps(message, ensure_ascii=False))
    elif captured:
        for line in table(captured):
            click.echo(line)
    else:
        click.echo(_nothing(endpoint))


@inbox.command()
@_data
@click.argument("id_", metavar="ID", default="latest")
@click.option("--raw", is_flag=True, help="Print the raw message.")
def show(data: Path | None, id_: str, raw: bool) -> None:
    """Show one captured message: its envelope, header and text.

    ID is the number in `mailrelay inbox list`, a queue id, or `latest` (the default).

    Exit code 0: success. 1: there is no such message, or the gateway did not answer. 4: there is
    no such data folder.
    """
    endpoint = read_endpoint(find_folder(data))
    try:
        number = _find(endpoint, id_)
        if raw:
            sys.stdout.buffer.write(endpoint.admin.captured_raw(number))
            return
        message = endpoint.admin.captured_one(number)
    except AdminUnreachable as error:
        raise NotAccepted(str(error)) from None
    for line in page(message):
        click.echo(line)


def table(messages: Iterable[Mapping[str, Any]], *, zone: tzinfo | None = None) -> Iterator[str]:
    """One line for each message; `zone` None is the machine's own."""
    yield " ".join([*(f"{name:<{width}}" for name, width in WIDTHS.items()), "SUBJECT"])
    for message in messages:
        first, *others = [str(one) for one in message.get("to", ())] or [""]
        cells = {
            "ID": str(message.get("id", "")),
            "RECEIVED": local(str(message.get("received_at", "")), zone=zone),
            "FROM": str(message.get("from", "")) or "<>",
            "TO": f"{first} +{len(others)}" if others else first,
            "SIZE": str(message.get("size", "")),
        }
        row = [f"{cut(printable(cells[name]), width):<{width}}" for name, width in WIDTHS.items()]
        yield " ".join([*row, printable(str(message.get("subject", "")))]).rstrip()


def page(message: Mapping[str, Any], *, zone: tzinfo | None = None) -> Iterator[str]:
    """A message as text: envelope, the usual header fields, body."""
    sender = "/".join(str(message.get(key) or "") for key in ("namespace", "sender"))
    yield f"Queue id: {printable(str(message.get('queue_id', '')))}"
    yield f"Received: {local(str(message.get('received_at', '')), zone=zone)}"
    if sender != "/":
        yield f"MailSender: {printable(sender)}"
    yield f"Envelope: from <{printable(str(message.get('from', '')))}>"
    for recipient in message.get("to", ()):
        yield f"          to <{printable(str(recipient))}>"
    yield ""
    fields = [(str(name), str(value)) for name, value in message.get("headers", ())]
    for wanted in FIELDS:
        for name, value in fields:
            if name.lower() == wanted.lower():
                yield f"{wanted}: {printable(value)}"
    yield ""
    for line in str(message.get("text", "")).splitlines():
        yield printable(line)


def local(time: str, *, zone: tzinfo | None = None) -> str:
    """An RFC 3339 time in the machine's zone, to the second; "" for none."""
    moment = parse_rfc3339(time)
    return moment.astimezone(zone).strftime("%Y-%m-%d %H:%M:%S") if moment is not None else ""


def _find(endpoint: Endpoint, wanted: str) -> int:
    if wanted.isdecimal():
        return int(wanted[:18])
    captured = endpoint.admin.captured(MAX_LISTED)
    if wanted == "latest":
        if not captured:
            raise NotAccepted(_nothing(endpoint))
        return int(captured[0]["id"])
    for message in captured:
        if message.get("queue_id") == wanted:
            return int(message["id"])
    if len(wanted) == 26:  # a queue id
        raise NotAccepted(f"No captured message has the queue id {printable(wanted)}.")
    raise NotUsable(
        f"{printable(wanted)}: ID must be a number from `mailrelay inbox list`, or latest."
    )


def _nothing(endpoint: Endpoint) -> str:
    if endpoint.has_sandbox:
        return "No message has been captured yet."
    return f"MailRelay {endpoint.relay} has no sandbox upstream, so nothing is captured."
