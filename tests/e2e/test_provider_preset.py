"""A relay with a provider's preset: what the spec says wins, the provider is told whose mail it
gets, and clients cannot tell it otherwise.
"""

from __future__ import annotations

from tests.e2e.conftest import RELAY_NAMESPACE, TEAM_NAMESPACE, await_binding
from tests.e2e.kubectl import Kubectl
from tests.e2e.mail import Client, Sink, plain_message, token
from tests.e2e.manifests import RELAYS, SENDERS, relay, sender

NAME = "preset"


def test_a_preset_relay_names_the_tenant_and_not_what_the_client_says(
    kubectl: Kubectl, client: Client, sink: Sink
) -> None:
    made = relay(NAME, RELAY_NAMESPACE, host=sink.host)
    (upstream,) = made["spec"]["upstreams"]
    upstream["smarthost"]["provider"] = "SES"  # hosts and tls.mode are the sink's
    upstream["attribution"] = [
        {"header": "X-SES-TENANT", "from": "Namespace"},
        {"header": "X-SES-CONFIGURATION-SET", "from": "Template", "template": "all-mail"},
    ]
    upstream["passHeaders"] = ["X-SES-MESSAGE-TAGS"]
    upstream["replies"] = [
        {"name": "busy", "code": 550, "text": "too many", "outcome": "Deferred", "after": "10m"}
    ]
    kubectl.apply(made)
    kubectl.wait(RELAYS, NAME, RELAY_NAMESPACE, "Ready", 120)
    kubectl.apply(sender(NAME, TEAM_NAMESPACE, relay=made))
    binding = await_binding(kubectl, f"{NAME}-smtp", TEAM_NAMESPACE)
    word = token()
    steering = (
        b"X-SES-Tenant: another\r\nX-SES-Source-ARN: arn:other\r\nX-SES-Message-Tags: a=b\r\n"
    )
    assert client.send(binding, steering + plain_message(word)).is_clean
    header, _, _ = sink.await_message(word).content.partition(b"\n\n")
    lines = header.splitlines()
    assert f"X-SES-TENANT: {TEAM_NAMESPACE}".encode() in lines
    assert b"X-SES-CONFIGURATION-SET: all-mail" in lines
    assert b"X-SES-Message-Tags: a=b" in lines
    assert b"another" not in header
    assert b"arn:other" not in header
    kubectl.wait(SENDERS, NAME, TEAM_NAMESPACE, "Deliverable", 60)
    kubectl.delete(SENDERS, NAME, TEAM_NAMESPACE)
    kubectl.delete(RELAYS, NAME, RELAY_NAMESPACE)
