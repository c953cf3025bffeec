"""Every file directly in examples/ can be used as it stands, runs, and delivers.

What it names beyond this machine (smarthosts, their logins, client networks) is replaced by what
is here: the sandbox example plays the smarthost, with its certificate, its login and both kinds of
TLS.
"""

from __future__ import annotations

import smtplib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.standalone.conftest import ROOT, Relay, mailrelay, sandbox_yaml
from tests.ports import free_port

EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))
#: Those that log in with a token are in test_oauth2.
RELAYING = [
    path
    for path in EXAMPLES
    if "smarthost:" in path.read_text() and "oauth2:" not in path.read_text()
]
Manifest = dict[str, Any]
#: The body that `mailrelay send` makes.
OF_SEND = "This is a test message of `mailrelay send`.\r\n"
#: What the smarthost wants.
LOGIN = {"username": "relay", "password": "a password for tests"}
LOGIN_SECRET: Manifest = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"name": "login", "labels": {"mailrelay.dev/credentials": "true"}},
    "stringData": LOGIN,
}


class Smarthost:
    """The sandbox example with a second listener: what is delivered to it can be looked at."""

    def __init__(self, folder: Path) -> None:
        self.port, self.tls_port = free_port(), free_port()
        text = sandbox_yaml(self.port).replace(
            "  upstreams:",
            f"    - {{name: tls, port: {self.tls_port}, tls: {{mode: Implicit}}}}\n  upstreams:",
        )
        text = text.replace("{secretName: demo-smtp}", "{existingSecretRef: {name: login}}")
        (folder / "smarthost.yaml").write_text(f"{text}---\n{yaml.safe_dump(LOGIN_SECRET)}")
        self.relay = Relay(folder / "smarthost.yaml", folder / "data", self.port, free_port())

    @property
    def authority(self) -> str:
        """The certificate of its CA."""
        return (self.relay.data / "ca.crt").read_text()


def test_no_two_of_them_are_about_the_same_object() -> None:
    """Whoever tries a second one in the same namespace must not overwrite the first."""
    done = mailrelay("check", *EXAMPLES)
    assert done.returncode == 0, done.stderr
    assert f"OK: {len(EXAMPLES)} MailRelays" in done.stdout


@pytest.fixture(scope="module")
def smarthost(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Smarthost]:
    made = Smarthost(tmp_path_factory.mktemp("smarthost"))
    try:
        made.relay.start()
        yield made
    finally:
        made.relay.kill()


@pytest.fixture
def running(tmp_path: Path) -> Iterator[list[Relay]]:
    """Relays that a test started."""
    started: list[Relay] = []
    yield started
    for one in started:
        one.kill()


def brought_here(path: Path, smarthost: Smarthost, *, down: tuple[str, ...] = ()) -> list[Manifest]:
    """The example's objects, with this machine's hosts; the upstreams in `down` lead nowhere."""
    objects = list(yaml.safe_load_all(path.read_text()))
    for one in objects:
        if one["kind"] == "Secret":
            one["stringData"] = LOGIN
        elif one["kind"] == "MailRelay":
            bring_relay(one["spec"], smarthost, down)
    authority = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "smarthost-ca"},
        "data": {"ca.crt": smarthost.authority},
    }
    return [*objects, authority]


def bring_relay(spec: Manifest, smarthost: Smarthost, down: tuple[str, ...]) -> None:
    for listener in spec["listeners"]:
        listener["port"] = free_port()
        if "clientCIDRs" in listener.get("authentication", {}):
            listener["authentication"]["clientCIDRs"] = ["127.0.0.0/16"]
    for upstream in spec["upstreams"]:
        if "smarthost" not in upstream:
            continue
        tls = upstream["smarthost"].setdefault("tls", {})
        tls["caRef"] = {"kind": "ConfigMap", "name": "smarthost-ca"}
        port = smarthost.tls_port if tls.get("mode") == "Implicit" else smarthost.port
        for host in upstream["smarthost"]["hosts"]:
            host["host"] = "127.0.0.1"
            host["port"] = free_port() if upstream["name"] in down else port


def start(objects: list[Manifest], folder: Path, running: list[Relay]) -> Relay:
    (folder / "example.yaml").write_text(yaml.safe_dump_all(objects))
    one = Relay(folder / "example.yaml", folder / "data", 0, free_port())
    running.append(one)
    return one.start()


def arrived(smarthost: Smarthost, subject: str, text: str) -> None:
    """The smarthost has the message, whole, for its recipient and nobody else."""
    found = smarthost.relay.captured(subject)
    assert found["to"] == ["someone@example.net"]
    raw: bytes = smarthost.relay.ask(f"/sandbox/messages/{found['id']}/raw")
    assert raw.partition(b"\r\n\r\n")[2] == text.encode()


def port_of(objects: list[Manifest], listener: str) -> int:
    (spec,) = [one["spec"] for one in objects if one["kind"] == "MailRelay"]
    return next(int(one["port"]) for one in spec["listeners"] if one["name"] == listener)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_can_be_used_as_it_stands(path: Path) -> None:
    done = mailrelay("check", path)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("path", RELAYING, ids=lambda path: path.stem)
def test_an_example_delivers_through_its_smarthost(
    path: Path, smarthost: Smarthost, running: list[Relay], tmp_path: Path
) -> None:
    relay = start(brought_here(path, smarthost), tmp_path, running)
    sent = mailrelay(
        *("send", "--data", relay.data, "--to", "someone@example.net", "--subject", path.stem)
    )
    assert sent.returncode == 0, sent.stderr
    arrived(smarthost, path.stem, OF_SEND)


def test_the_second_smarthost_takes_what_the_first_does_not(
    smarthost: Smarthost, running: list[Relay], tmp_path: Path
) -> None:
    objects = brought_here(ROOT / "examples" / "3-failover.yaml", smarthost, down=("first",))
    relay = start(objects, tmp_path, running)
    sent = mailrelay(
        *("send", "--data", relay.data, "--to", "someone@example.net", "--subject", "second way")
    )
    assert sent.returncode == 0, sent.stderr
    arrived(smarthost, "second way", OF_SEND)


def test_a_printer_submits_without_tls_and_login(
    smarthost: Smarthost, running: list[Relay], tmp_path: Path
) -> None:
    objects = brought_here(ROOT / "examples" / "4-legacy-listener.yaml", smarthost)
    start(objects, tmp_path, running)
    with smtplib.SMTP("127.0.0.1", port_of(objects, "legacy"), timeout=20) as printer:
        printer.sendmail(
            "scanner@example.com",
            ["someone@example.net"],
            "From: scanner@example.com\r\nSubject: scanned\r\n\r\nPage 1\r\n",
        )
    arrived(smarthost, "scanned", "Page 1\r\n")
