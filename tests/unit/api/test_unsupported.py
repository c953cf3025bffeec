"""A field that does not act yet is named when it is used; what acts is never named."""

from typing import Any

import pytest

from mailrelay_operator.api.crd import definition
from mailrelay_operator.api.parsing import parse
from mailrelay_operator.api.unsupported import (
    ACTING,
    acts,
    unsupported_fields,
    unsupported_message,
)
from tests.unit.api.documents import (
    GOLD,
    HOSTS,
    LOGIN,
    Document,
    admitting,
    domain,
    limited_by,
    listening,
    oauth2,
    relay,
    sender,
    sending_by,
)

SUPPORTED: dict[str, Document] = {
    "least relay": relay(),
    "numbers and flags": relay(replicas=3, suspend=True),
    "login by token": oauth2(flow="ClientCredentials", clientSecretRef={"name": "a", "key": "b"}),
    "listener": listening(
        tls={"mode": "Implicit", "certificateRefs": [{"name": "a"}]},
        authentication={"mode": "Required"},
    ),
    "no logins": listening(
        tls={"mode": "None"}, authentication={"mode": "None", "clientCIDRs": ["10.0.0.0/8"]}
    ),
    "senders": admitting(namespaces={"from": "Selector", "selector": GOLD}, addresses=["*"]),
    "smarthost": sending_by(
        smarthost={
            "hosts": HOSTS,
            "tls": {
                "mode": "StartTLS",
                "caRef": {"name": "ca"},
                "serverName": "a.example",
                "certificateRef": {"name": "b"},
            },
            "auth": LOGIN,
        },
        connections=3,
        messagesPerConnection=7,
    ),
    "sandbox": sending_by(sandbox={"keep": 7}),
    "message": relay(limits={"message": {"maxSize": "1Mi", "maxRecipients": 3}}),
    "rate of a minute": limited_by(messages=3, per="60s", burst=9, onLimit="Reject"),
    "retry": relay(retry={"giveUpAfter": "1h", "maxInterval": "1m"}),
    "ephemeral": relay(queue={"ephemeral": {}}),
    "storage": relay(queue={"storage": {"size": "1Gi", "storageClassName": "fast"}}),
    "service": relay(service={"type": "NodePort", "annotations": {"a": "b"}}),
    "image and its pull secrets": relay(
        image="gateway:1", template={"imagePullSecrets": [{"name": "registry"}]}
    ),
    "defaults said out loud": relay(
        networkPolicy={"mode": "Managed"},
        resolver={"timeout": "5s", "validating": False},
        rewrite={"headers": {"add": []}},
        routes=[],
        listeners=[{"name": "a", "port": 2525, "protocol": "SMTP"}],
    ),
    "routes": relay(
        routes=[
            {
                "name": "all",
                "match": {"namespaceSelector": {"matchLabels": {"tier": "gold"}}},
                "upstreams": [{"name": "box", "weight": 2}],
            }
        ]
    ),
    "minted": sender(suspend=True),
    "brought": sender(credentials={"existingSecretRef": {"name": "old"}}),
}


@pytest.mark.parametrize("name", SUPPORTED)
def test_what_acts_is_not_named(name: str) -> None:
    assert unsupported_fields(parse(SUPPORTED[name])) == ()


@pytest.mark.parametrize(
    ("document", "fields"),
    [
        (listening(protocol="HTTP", tls={"mode": "Implicit"}), ["spec.listeners[one].protocol"]),
        (listening(tls={"clientCARef": {"name": "a"}}), ["spec.listeners[one].tls.clientCARef"]),
        (
            listening(proxyProtocol={"trustedCIDRs": ["10.0.0.0/8"]}),
            ["spec.listeners[one].proxyProtocol"],
        ),
        (relay(serviceAccountTokens={}), ["spec.serviceAccountTokens"]),
        (sending_by(direct={}), ["spec.upstreams[one].direct"]),
        (limited_by(messages=3, per="61s"), ["spec.limits.rates[one].per"]),
        (relay(queue={"storage": {}, "maxMessages": 5}), ["spec.queue.maxMessages"]),
        (relay(queue={"postgres": {"secretRef": {"name": "a"}}}), ["spec.queue.postgres"]),
        (
            relay(resolver={"validating": True}, recipients={"deny": ["*@example.com"]}),
            ["spec.recipients", "spec.resolver"],
        ),
        (
            sender(
                credentials={"secretName": "a", "rotateEvery": "24h"},
                serviceAccounts=[{"name": "a"}],
                limits={"rates": [{"name": "s", "messages": 1, "per": "1s"}]},
            ),
            ["spec.credentials.rotateEvery", "spec.serviceAccounts", "spec.limits"],
        ),
        (domain(), ["kind: MailDomain"]),
    ],
)
def test_what_does_not_act_is_named(document: Document, fields: list[str]) -> None:
    assert list(unsupported_fields(parse(document))) == fields


def test_all_fields_stand_in_one_message() -> None:
    assert unsupported_message(("spec.a", "spec.b")) == (
        "Not supported in this version: spec.a, spec.b. Remove them; the last accepted spec stays"
        " in effect."
    )


@pytest.mark.parametrize(
    ("field", "answer"),
    [
        ("spec.hostname", True),
        ("spec.retry.maxInterval", True),
        ("spec.listeners", None),
        ("spec.listeners[].tls", None),
        ("spec.listeners[].tls.mode", True),
        ("spec.listeners[].proxyProtocol.trustedCIDRs", False),
        ("spec.limits.rates[].per", None),
        ("spec.allowedSenders[].namespaces.selector", True),
        ("spec.rewrite", None),
        ("spec.rewrite.nullSender", True),
        ("spec.rewrite.headers", False),
    ],
)
def test_the_reference_knows_what_acts(field: str, answer: bool | None) -> None:
    assert acts("MailRelay", field) is answer


def field_paths(schema: dict[str, Any], path: str) -> list[str]:
    found = []
    for name, part in schema.get("properties", {}).items():
        at = f"{path}.{name}"
        found += [at, *field_paths(part, at), *field_paths(part.get("items", {}), f"{at}[]")]
    return found


@pytest.mark.parametrize("kind", ACTING)
def test_every_path_that_acts_is_a_field(kind: str) -> None:
    schema = definition(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    assert set(ACTING[kind]) <= set(field_paths(schema["properties"]["spec"], "spec"))
