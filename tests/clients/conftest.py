"""A relay as `mailrelay up` runs it, and the environment by which clients know it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.standalone.conftest import Relay
from tests.peers.certificates import make
from tests.ports import free_port
from tests.waiting import wait_until

#: The clients that the machine has to have: `make clients` says that it has them.
collect_ignore_glob = [] if os.environ.get("CLIENTS") else ["test_installed_clients.py"]

#: Characters that careless quoting breaks.
PASSWORD = "p:a@s/s w%rd$1"
RELAY = """
apiVersion: v1
kind: Secret
metadata: {name: app-login, labels: {mailrelay.dev/credentials: "true"}}
type: kubernetes.io/basic-auth
stringData: {username: app, password: "PASSWORD"}
---
apiVersion: v1
kind: Secret
metadata: {name: billing-login, labels: {mailrelay.dev/credentials: "true"}}
type: kubernetes.io/basic-auth
stringData: {username: billing, password: "PASSWORD"}
---
apiVersion: v1
kind: Secret
metadata: {name: strange}
type: kubernetes.io/tls
stringData:
  tls.crt: CERTIFICATE
  tls.key: KEY
---
apiVersion: mailrelay.dev/v1alpha1
kind: MailRelay
metadata: {name: relay}
spec:
  hostname: relay.example.com
  listeners:
    - {name: submission, port: SUBMISSION}
    - {name: strange, port: STRANGE, tls: {mode: StartTLS, certificateRefs: [{name: strange}]}}
  upstreams: [{name: capture, sandbox: {}}]
  queue: {ephemeral: {}}
---
apiVersion: mailrelay.dev/v1alpha1
kind: MailSender
metadata: {name: app}
spec:
  relayRef: {name: relay}
  from: ["*@example.com"]
  credentials: {existingSecretRef: {name: app-login}}
---
apiVersion: mailrelay.dev/v1alpha1
kind: MailSender
metadata: {name: billing}
spec:
  relayRef: {name: relay}
  from: [billing@example.com]
  credentials: {existingSecretRef: {name: billing-login}}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A relay that captures, and how a pod would be told of it."""

    relay: Relay
    strange_port: int
    strange_ca: Path  # of a certificate that has another name than localhost

    def environment(self, **other: str) -> dict[str, str]:
        """What a pod has in its environment."""
        return {
            "SMTP_HOST": "localhost",
            "SMTP_PORT": str(self.relay.port),
            "SMTP_USERNAME": "app",
            "SMTP_PASSWORD": PASSWORD,
            "SMTP_CA_FILE": str(self.relay.data / "ca.crt"),
            **other,
        }

    def failing(self, failure: str) -> dict[str, str]:
        """The environment that brings this failure about, by its name in the page's table."""
        strange = str(self.strange_ca)
        return self.environment(
            **{
                "CA not trusted": {"SMTP_CA_FILE": strange},
                "another host name": {
                    "SMTP_CA_FILE": strange,
                    "SMTP_PORT": str(self.strange_port),
                },
                "wrong password": {"SMTP_PASSWORD": "wrong"},
                "sender not allowed": {"SMTP_USERNAME": "billing"},
            }[failure]
        )

    def count(self) -> int:
        """How many messages were captured so far, by the id of the newest."""
        return max(
            (one["id"] for one in self.relay.ask("/sandbox/messages")["messages"]), default=0
        )

    def await_more(self, before: int, said: str) -> None:
        """Wait for a message after `before`; `said` is told when none comes."""
        wait_until(lambda: self.count() > before, f"message; the client said: {said}")


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("clients")
    submission, strange = free_port(), free_port()
    certificate, key = make(names=("relay.example.com",))
    (folder / "strange.crt").write_text(certificate)
    text = RELAY
    for word, value in {
        "PASSWORD": PASSWORD,
        "CERTIFICATE": repr_yaml(certificate),
        "KEY": repr_yaml(key),
        "SUBMISSION": str(submission),
        "STRANGE": str(strange),
    }.items():
        text = text.replace(word, value)
    (folder / "relay.yaml").write_text(text)
    relay = Relay(folder / "relay.yaml", folder / "data", submission, free_port())
    try:
        relay.start()
        yield Place(relay=relay, strange_port=strange, strange_ca=folder / "strange.crt")
    finally:
        relay.kill()


def repr_yaml(text: str) -> str:
    """A text of several lines, as YAML takes it in double quotes."""
    return '"' + text.replace("\n", "\\n") + '"'
