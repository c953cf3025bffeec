"""`mailrelay send` says what became of a message: delivered, in the upstream's words, or not."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.standalone.conftest import Relay, mailrelay
from tests.peers.smtp_sink import smtp_sink
from tests.ports import free_port
from tests.waiting import wait_until

COMPANY = """
apiVersion: mailrelay.dev/v1alpha1
kind: MailRelay
metadata: {name: company, namespace: default}
spec:
  hostname: relay.example.com
  listeners: [{name: submission, port: LISTEN}]
  upstreams:
    - name: smarthost
      smarthost: {hosts: [{host: 127.0.0.1, port: UPSTREAM}], tls: {mode: None}}
---
apiVersion: mailrelay.dev/v1alpha1
kind: MailSender
metadata: {name: app, namespace: default}
spec:
  relayRef: {name: company}
  from: ["*@example.com"]
  credentials: {secretName: app-smtp}
"""


@pytest.fixture
def company(tmp_path: Path) -> Iterator[tuple[Relay, int]]:
    """A relay with a smarthost at a port where nobody listens yet."""
    port, upstream = free_port(), free_port()
    text = COMPANY.replace("LISTEN", str(port)).replace("UPSTREAM", str(upstream))
    (tmp_path / "relay.yaml").write_text(text)
    running = Relay(tmp_path / "relay.yaml", tmp_path / "data", port, free_port())
    try:
        yield running.start(), upstream
    finally:
        running.kill()


def test_the_upstream_s_reply_is_shown(company: tuple[Relay, int]) -> None:
    relay, upstream = company
    with smtp_sink(port=upstream):
        done = mailrelay("send", "--data", relay.data, "--to", "b@example.net")
    assert done.returncode == 0, done.stderr
    assert f"Delivered at 127.0.0.1:{upstream}: 250 2.0.0 Ok" in done.stdout


def test_an_upstream_that_is_down_is_named_and_nothing_is_lost(company: tuple[Relay, int]) -> None:
    relay, _ = company

    def status() -> str:
        return mailrelay("status", "--data", relay.data, "--json").stdout

    to_nobody = ("send", "--data", relay.data, "--to", "b@example.net", "--wait")
    assert mailrelay(*to_nobody, "0").returncode == 0
    wait_until(lambda: "UpstreamUnreachable" in status(), "the hold in the status")
    done = mailrelay(*to_nobody, "1")
    assert done.returncode == 0, done.stderr
    assert "Accepted: 250" in done.stdout
    assert " s; it is queued" in done.stdout
    assert "Upstream smarthost is held (UpstreamUnreachable)" in done.stdout

    # The queue is counted each second.
    wait_until(lambda: '"messages": 2' in status(), "both messages in the status")


def test_a_relay_that_sends_for_real_asks_for_a_recipient(company: tuple[Relay, int]) -> None:
    relay, _ = company
    done = mailrelay("send", "--data", relay.data)
    assert done.returncode == 2
    assert "This relay really sends mail:" in done.stderr
