"""`mailrelay send`: submits one test message and reports the result.

Turns the arguments into a Target and a message; `submission` speaks SMTP.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import formatdate, getaddresses, make_msgid
from pathlib import Path

import click

from mailrelay_gateway.contract.documents import AuthenticationMode, TlsMode
from mailrelay_gateway.contract.stage import Stage
from mailrelay_gateway.contract.status import UpstreamState
from mailrelay_operator.cli.admin import AdminUnreachable
from mailrelay_operator.cli.advice import advise
from mailrelay_operator.cli.delivery import LogTail, describe, follow
from mailrelay_operator.cli.endpoint import Endpoint, Listener, Login, read_endpoint
from mailrelay_operator.cli.folder import DataFolder
from mailrelay_operator.cli.folders import find_folder
from mailrelay_operator.cli.hints import NOBODY, inbox_line, sender_address
from mailrelay_operator.cli.itself import program
from mailrelay_operator.cli.loglines import printable
from mailrelay_operator.cli.stop import FolderTrouble, NotAccepted, NotUsable
from mailrelay_operator.cli.submission import (
    Receipt,
    Refused,
    Target,
    parse_url,
    read_authorities,
    submit,
)

#: Seconds to wait for the delivery after the message was accepted.
DEFAULT_WAIT = 10.0
#: Where a server other than the folder's relay shows itself: by its certificate or its logins.
_OTHER_SERVER = frozenset({Stage.STARTTLS, Stage.TLS, Stage.AUTH})


@click.command()
@click.option("--data", type=click.Path(path_type=Path), help="Data folder of `mailrelay up`.")
@click.option("--url", help="smtp[s]://USER:PASSWORD@HOST:PORT instead of a data folder.")
@click.option("--ca", default="", help="PEM file with the CA to trust; with --url.")
@click.option("--sender", help="MailSender to log in as, NS/NAME; default: the first one.")
@click.option("--from", "from_", help="Envelope sender; default: an address of the MailSender.")
@click.option("--to", multiple=True, help="Recipients, separated by commas; repeatable.")
@click.option("--subject", default="Test from mailrelay", show_default=True)
@click.option("--body", default="", help="Text of the message; - reads standard input.")
@click.option(
    "--wait",
    type=click.FloatRange(0, 3600),
    default=DEFAULT_WAIT,
    show_default=True,
    help="Seconds to wait for the delivery.",
)
def send(
    data: Path | None,
    url: str | None,
    ca: str,
    sender: str | None,
    from_: str | None,
    to: tuple[str, ...],
    subject: str,
    body: str,
    wait: float,
) -> None:
    """Submit a test message over TLS and AUTH, and report the result.

    Exit code 0: the relay accepted the message and stored it durably. 1: it was refused; the reply
    is shown verbatim. 2: the arguments are not valid. 4: the data folder is unusable.
    """
    folder = endpoint = None
    login: Login | None = None
    if url:
        try:
            target = parse_url(url)
        except ValueError as error:
            raise NotUsable(f"--url: {error}.") from None
        try:
            target = replace(target, ca=read_authorities(ca) if ca else "")
        except ValueError as error:
            raise NotUsable(f"--ca: {error}.") from None
        if not from_:
            raise NotUsable("--url requires the sender's address: --from YOU@YOUR.DOMAIN.")
    else:
        if ca:
            raise NotUsable("--ca is only for --url; a data folder contains the CA of its relay.")
        folder = find_folder(data)
        endpoint = read_endpoint(folder)
        login = _choose_login(endpoint, sender)
        target = _target(_as_it_runs(endpoint), login, folder)
    recipients = _addresses("--to", to) if to else _default_recipients(endpoint)
    (address,) = _addresses("--from", (from_ or sender_address(login),))[:1]
    message = _compose(address, recipients, subject, _read_body() if body == "-" else body)
    tail = LogTail(folder.log) if folder is not None else None
    click.echo(f"Submitting to {target}: from {address} to {', '.join(recipients)}")
    try:
        receipt = submit(target, sender=address, recipients=recipients, message=message)
    except Refused as refused:
        click.echo(f"Refused at {refused.stage.upper()}: {refused.reply}", err=True)
        if folder is not None and refused.stage in _OTHER_SERVER and not folder.is_locked():
            raise NotAccepted(
                f"No relay is running with the data folder {folder.path}, and another server"
                " answers at its port. Start the relay, or choose the folder of the running one"
                " with --data."
            ) from None
        raise NotAccepted(advise(refused)) from None
    click.echo(f"Accepted: {receipt.reply}")
    if folder is not None and endpoint is not None and tail is not None:
        _look_on(receipt, endpoint, folder, tail, wait)


def _choose_login(endpoint: Endpoint, wanted: str | None) -> Login | None:
    """The login to use; None if a listener accepts mail without one."""
    known = ", ".join(login.sender for login in endpoint.logins) or "none"
    if wanted is not None:
        matching = [one for one in endpoint.logins if wanted in (one.sender, one.username)]
        if not matching:
            raise NotUsable(f"--sender {wanted}: no such MailSender; known: {known}.")
        if not matching[0].password:
            raise NotUsable(
                f"--sender {wanted}: its password is only in your existing Secret; use"
                " --url smtp://USER:PASSWORD@HOST:PORT --ca FILE."
            )
        return matching[0]
    usable = [login for login in endpoint.logins if login.password]
    if usable:
        return usable[0]
    if any(listener.authentication is AuthenticationMode.NONE for listener in endpoint.listeners):
        return None
    raise NotUsable(
        f"No MailSender with a generated password (known: {known}); add one as in"
        " examples/1-sandbox.yaml, or use --url with your own password."
    )


def _as_it_runs(endpoint: Endpoint) -> Endpoint:
    """The endpoint with the listeners and ports that the gateway serves, since an edit may have
    moved one to a port that is in use. Unchanged if no gateway answers."""
    try:
        running = endpoint.admin.status()
    except AdminUnreachable:
        return endpoint
    listeners = tuple(
        listener.model_copy(update={"port": running.ports[listener.name]})
        for listener in endpoint.listeners
        if listener.name in running.ports
    )
    if not listeners and running.not_serving:
        raise NotUsable(" ".join(running.not_serving))
    return endpoint.model_copy(update={"listeners": listeners}) if listeners else endpoint


def _target(endpoint: Endpoint, login: Login | None, folder: DataFolder) -> Target:
    listener = _choose_listener(endpoint, login)
    logs_in = login is not None and listener.tls is not TlsMode.NONE
    return Target(
        host=listener.host,
        port=listener.port,
        tls=listener.tls,
        server_name=listener.certificate_host,
        ca=_authorities(folder),
        username=login.username if login is not None and logs_in else "",
        password=login.password if login is not None and logs_in else "",
    )


def _authorities(folder: DataFolder) -> str:
    if not folder.ca_file.exists():
        return ""
    try:
        return read_authorities(str(folder.ca_file))
    except ValueError as error:
        raise FolderTrouble(f"{error}; restart `mailrelay up` to write it again.") from None


def _addresses(option: str, given: Iterable[str]) -> list[str]:
    """The addresses in an option, separated by commas; raises NotUsable."""
    found = [address for _, address in getaddresses(list(given)) if address]
    for address in found:
        local, at, domain = address.rpartition("@")
        if not at or not local or not domain or len(address.split()) > 1:
            raise NotUsable(f"{option} {address}: write an address as in {NOBODY}.")
        if not address.isascii():
            raise NotUsable(
                f"{option} {address}: this command sends to ASCII addresses; write a domain as"
                " xn--..."
            )
    if not found:
        raise NotUsable(f"{option} {', '.join(given)}: write an address as in {NOBODY}.")
    return found


def _read_body() -> str:
    if sys.stdin is None:
        raise NotUsable("--body -: standard input is closed.")
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as error:
        raise NotUsable(
            f"--body -: standard input is not UTF-8 text (octet {error.start})."
        ) from None


def _choose_listener(endpoint: Endpoint, login: Login | None) -> Listener:
    for listener in endpoint.listeners:
        if login is not None or listener.authentication is AuthenticationMode.NONE:
            return listener
    raise NotUsable("The relay has no SMTP listener; add one to `spec.listeners`.")


def _default_recipients(endpoint: Endpoint | None) -> list[str]:
    if endpoint is not None and endpoint.sends_nothing_out:
        return [NOBODY]
    raise NotUsable("This relay really sends mail: give a recipient, --to YOU@YOUR.DOMAIN.")


def _compose(sender: str, recipients: list[str], subject: str, body: str) -> bytes:
    message = EmailMessage()
    try:
        message["From"] = sender
        message["To"] = ", ".join(recipients)
        message["Subject"] = subject
        message["Date"] = formatdate(localtime=True)
        message["Message-ID"] = make_msgid(domain=sender.rpartition("@")[2])
        message.set_content(body or "This is a test message of `mailrelay send`.\n")
        return message.as_bytes(policy=SMTP)
    except UnicodeError:
        raise NotUsable("--subject, --body: not UTF-8 text.") from None
    except ValueError as error:
        raise NotUsable(f"Cannot compose the message: {error}.") from None


def _look_on(
    receipt: Receipt, endpoint: Endpoint, folder: DataFolder, tail: LogTail, wait: float
) -> None:
    if not receipt.queue_id or wait == 0:
        return
    if not tail.path.exists():
        return  # `up --logs json` writes no log file
    outcome = follow(tail, receipt.queue_id, wait=wait)
    if outcome is None:
        click.echo(f"Not delivered within {wait:g} s; it is queued and will be retried.")
        for line in _held_upstreams(endpoint):
            click.echo(line)
        return
    click.echo(describe(outcome))
    if outcome.get("event") == "captured":
        _show_captured(endpoint, folder, receipt.queue_id)


def _held_upstreams(endpoint: Endpoint) -> Iterator[str]:
    """Why mail is held, as far as the gateway knows."""
    try:
        answer = endpoint.admin.status()
    except AdminUnreachable as error:
        yield str(error)
        return
    if answer.suspended:
        yield "The relay is suspended: mail is accepted but not delivered."
    for upstream in answer.upstreams:
        if upstream.state is UpstreamState.HELD:
            words = printable(upstream.message)
            yield f"Upstream {upstream.name} is held ({upstream.reason}): {words}"


def _show_captured(endpoint: Endpoint, folder: DataFolder, queue_id: str) -> None:
    try:
        captured = endpoint.admin.captured()
    except AdminUnreachable as error:
        click.echo(str(error))
        return
    for message in captured:
        if message.get("queue_id") == queue_id:
            line = inbox_line(program(), str(folder.path.absolute()), message["id"])
            click.echo(f"To see it: {line}")
