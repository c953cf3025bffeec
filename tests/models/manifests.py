"""MailRelays and MailSenders as manifests, the least that can be accepted: every test that needs
one builds on these.
"""

from __future__ import annotations

from typing import Any

Manifest = dict[str, Any]

API_VERSION = "mailrelay.dev/v1alpha1"


def mail_relay(
    name: str = "out", namespace: str = "mail", /, metadata: Manifest | None = None, **spec: Any
) -> Manifest:
    """A MailRelay into a sandbox; `spec` replaces its fields, `metadata` is added."""
    least = {"hostname": "relay.example.com", "upstreams": [{"name": "box", "sandbox": {}}]}
    return {
        "apiVersion": API_VERSION,
        "kind": "MailRelay",
        "metadata": {"name": name, "namespace": namespace} | (metadata or {}),
        "spec": least | spec,
    }


def mail_sender(
    name: str = "app", namespace: str = "mail", /, metadata: Manifest | None = None, **spec: Any
) -> Manifest:
    """A MailSender of mail/out that may be anybody at example.com; as above."""
    least = {
        "relayRef": {"name": "out", "namespace": "mail"},
        "from": ["*@example.com"],
        "credentials": {"secretName": f"{name}-smtp"},
    }
    return {
        "apiVersion": API_VERSION,
        "kind": "MailSender",
        "metadata": {"name": name, "namespace": namespace} | (metadata or {}),
        "spec": least | spec,
    }
