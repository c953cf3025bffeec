"""The text that `mailrelay up` prints: listeners, logins, and commands to copy.

Pure: an Endpoint in, text out. Every command in it can be copied and run unchanged.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence

from mailrelay_gateway.contract.documents import AuthenticationMode, TlsMode
from mailrelay_operator.cli.endpoint import FILE, Endpoint, Listener, Login

#: A reserved recipient (RFC 2606), for relays that only capture mail.
NOBODY = "someone@example.net"
YOURSELF = "YOU@YOUR.DOMAIN"
_TLS = {
    TlsMode.NONE: "no TLS",
    TlsMode.START_TLS: "STARTTLS",
    TlsMode.IMPLICIT: "implicit TLS",
}
#: Maximum number of logins listed; all are in the data folder.
MAX_LISTED = 10


def hint_text(
    endpoint: Endpoint, *, data: str, ca_file: str, program: Sequence[str], show_secrets: bool
) -> str:
    """The whole text; `data` is the data folder. Without `show_secrets` (when stdout is not a
    terminal) it names the file with the secrets instead."""
    recipient = NOBODY if endpoint.sends_nothing_out else YOURSELF
    kept = "" if show_secrets else f"(in {data}/{FILE})"
    rows = [("Submit to", _listener_text(listener)) for listener in endpoint.listeners]
    for login in endpoint.logins[:MAX_LISTED]:
        rows += _login_rows(login, kept)
    if len(endpoint.logins) > MAX_LISTED:
        rows.append(("", f"and {len(endpoint.logins) - MAX_LISTED} more MailSenders"))
    if ca_file:
        rows.append(("CA file", ca_file))
    rows.append(("Admin", f"{endpoint.admin.url} (/metrics, /livez, /readyz)"))
    if endpoint.admin_token:
        rows.append(("Admin token", kept or endpoint.admin_token))
    lines = [f"MailRelay {endpoint.relay} is running on this machine. Ctrl-C stops it.", ""]
    lines += _table(rows)
    commands = [*_commands(endpoint, data, ca_file, program, recipient)]
    if not show_secrets:
        commands = commands[:1]  # the others contain the password
    any_of = " (any of these)" if len(commands) > 1 else ""
    lines += ["", f"Send a message{any_of}:", ""]
    lines += [f"  {line}" for line in commands]
    lines += ["", *_where_to_look(endpoint, data, program)]
    return "\n".join(lines) + "\n"


def swaks_line(listener: Listener, login: Login | None, *, ca_file: str, recipient: str) -> str:
    """The swaks command that submits a test message here."""
    words = ["swaks", "--server", listener.host, "--port", str(listener.port)]
    if listener.tls is not TlsMode.NONE:
        words.append("--tls" if listener.tls is TlsMode.START_TLS else "--tls-on-connect")
        if ca_file:
            words += ["--tls-verify", "--tls-ca-path", ca_file]
    if login is not None:
        words += ["--auth", "PLAIN", "--auth-user", login.username]
        # swaks takes a value that begins with a hyphen for an option; without one it prompts.
        if not login.password.startswith("-"):
            words += ["--auth-password", login.password]
    words += ["--from", sender_address(login), "--to", recipient]
    return shlex.join(words)


def curl_line(listener: Listener, login: Login | None, *, ca_file: str, recipient: str) -> str:
    """The curl command that submits a test message here."""
    sender = sender_address(login)
    text = f"From: {sender}\\r\\nTo: {recipient}\\r\\nSubject: Hello\\r\\n\\r\\nHello.\\r\\n"
    words = ["curl"]
    if listener.tls is TlsMode.START_TLS:
        words.append("--ssl-reqd")
    if listener.tls is not TlsMode.NONE and ca_file:
        words += ["--cacert", ca_file]
    if login is not None:
        words += ["--user", f"{login.username}:{login.password}"]
    host = _bracketed(listener.host)
    if listener.certificate_host:
        words += ["--resolve", f"{listener.certificate_host}:{listener.port}:{host}"]
        host = listener.certificate_host
    scheme = "smtps" if listener.tls is TlsMode.IMPLICIT else "smtp"
    words += ["--mail-from", sender, "--mail-rcpt", recipient, "-T", "-"]
    words.append(f"{scheme}://{host}:{listener.port}")
    return f"printf '{text}' | {shlex.join(words)}"


def inbox_line(program: Sequence[str], data: str, number: int | None = None) -> str:
    """The command that shows the captured messages, or one of them."""
    what = ["list"] if number is None else ["show", str(number)]
    return shlex.join([*program, "inbox", *what, "--data", data])


def sender_address(login: Login | None) -> str:
    """An address that the login may send from."""
    pattern = next(iter(login.addresses), "*") if login is not None else "*"
    if pattern == "*":
        return "test@example.com"
    return pattern.replace("*", "test", 1) if pattern.startswith("*@") else pattern


def _listener_text(listener: Listener) -> str:
    login = "" if listener.authentication is AuthenticationMode.REQUIRED else ", without login"
    return f"{_bracketed(listener.host)}:{listener.port} ({_TLS[listener.tls]}{login})"


def _login_rows(login: Login, kept: str) -> list[tuple[str, str]]:
    password = (kept or login.password) if login.password else "(in your existing Secret)"
    owner = f"MailSender {login.sender}, sends from {', '.join(login.addresses)}"
    return [("User", f"{login.username}   ({owner})"), ("Password", password)]


def _commands(
    endpoint: Endpoint, data: str, ca_file: str, program: Sequence[str], recipient: str
) -> Iterable[str]:
    login = next((one for one in endpoint.logins if one.password), None)
    listeners = [
        listener
        for listener in endpoint.listeners
        if login is not None or listener.authentication is AuthenticationMode.NONE
    ]
    if not listeners:
        yield "(no MailSender with a generated password: add one as in examples/1-sandbox.yaml)"
        return
    listener = listeners[0]
    used = login if listener.authentication is AuthenticationMode.REQUIRED else None
    send = [*program, "send", "--data", data]
    if not endpoint.sends_nothing_out:
        send += ["--to", recipient]
    yield shlex.join(send)
    yield swaks_line(listener, used, ca_file=ca_file, recipient=recipient)
    yield curl_line(listener, used, ca_file=ca_file, recipient=recipient)


def _where_to_look(endpoint: Endpoint, data: str, program: Sequence[str]) -> Iterable[str]:
    if endpoint.has_sandbox:
        everything = "No mail is sent out. Captured" if endpoint.sends_nothing_out else "Captured"
        yield f"{everything} mail, newest first:"
        yield ""
        yield f"  {inbox_line(program, data)}"
        yield ""
    yield "Status of the queue and the upstreams:"
    yield ""
    yield f"  {shlex.join([*program, 'status', '--data', data])}"


def _table(rows: list[tuple[str, str]]) -> list[str]:
    width = max(len(name) for name, _ in rows) + 2
    return [f"  {name:<{width}}{value}" for name, value in rows]


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
