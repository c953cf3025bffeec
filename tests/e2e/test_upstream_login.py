"""A foreign smarthost that insists on STARTTLS and a login: Postfix, with a private CA."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import pytest

from tests.e2e.conftest import RELAY_NAMESPACE, TEAM_NAMESPACE, await_binding
from tests.e2e.kubectl import Kubectl, Manifest, condition, eventually
from tests.e2e.mail import Binding, Client, Sink, plain_message, token
from tests.e2e.manifests import (
    RELAYS,
    SENDERS,
    SINK_PORT,
    address,
    basic_auth,
    namespace,
    peer_pod,
    peer_service,
    relay,
    sender,
)
from tests.peers.certificates import certificate

#: Postfix's master needs root: no namespace that enforces `restricted`.
NAMESPACE = "e2e-smarthost"
HOST = address("smarthost", NAMESPACE)
USERNAME, PASSWORD = "relay-account", "correct horse battery staple"


@pytest.fixture(scope="module")
def postfix(kubectl: Kubectl, sink: Sink) -> str:
    """Postfix as a smarthost that hands on to the sink; returns its certificate."""
    tls = certificate(HOST)
    encoded = {
        k: base64.b64encode(v.encode()).decode()
        for k, v in {"crt": tls.chain, "key": tls.key}.items()
    }
    pod = peer_pod(
        "smarthost",
        NAMESPACE,
        ["/peers/smarthost.sh"],
        secrets={"/tls": "tls", "/login": "login"},
        port=SINK_PORT,
        root=True,
    )
    pod["spec"]["containers"][0]["env"] = [
        {"name": "NEXT_HOP", "value": f"{sink.host}:{SINK_PORT}"}
    ]
    kubectl.apply(namespace(NAMESPACE, restricted=False))
    kubectl.apply(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "tls", "namespace": NAMESPACE},
            "type": "kubernetes.io/tls",
            "data": {f"tls.{name}": value for name, value in encoded.items()},
        },
        basic_auth("login", NAMESPACE, USERNAME, PASSWORD),
        peer_service("smarthost", NAMESPACE, SINK_PORT),
        pod,
    )
    kubectl.wait("pod", "smarthost", NAMESPACE, "Ready", 60)
    return tls.chain


@pytest.fixture(scope="module")
def through(
    kubectl: Kubectl, postfix: str, mail_relay: Manifest, client: Client
) -> Iterator[Binding]:
    """A login to a relay that goes through Postfix, with the wrong password at first."""
    made = relay("through", RELAY_NAMESPACE, host=HOST)
    (upstream,) = made["spec"]["upstreams"]
    upstream["smarthost"]["tls"] = {
        "mode": "StartTLS",
        "caRef": {"kind": "ConfigMap", "name": "smarthost-ca"},
    }
    upstream["smarthost"]["auth"] = {"basic": {"secretRef": {"name": "smarthost-login"}}}
    kubectl.apply(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "smarthost-ca", "namespace": RELAY_NAMESPACE},
            "data": {"ca.crt": postfix},
        },
        basic_auth("smarthost-login", RELAY_NAMESPACE, USERNAME, "wrong"),
        made,
    )
    kubectl.wait(RELAYS, "through", RELAY_NAMESPACE, "Ready", 120)
    kubectl.apply(sender("through", TEAM_NAMESPACE, relay=made))
    yield await_binding(kubectl, "through-smtp", TEAM_NAMESPACE)
    kubectl.delete(SENDERS, "through", TEAM_NAMESPACE)
    kubectl.delete(RELAYS, "through", RELAY_NAMESPACE)


def test_a_refused_login_holds_the_queue_until_the_secret_is_corrected(
    kubectl: Kubectl, client: Client, sink: Sink, through: Binding
) -> None:
    word = token()
    assert client.send(through, plain_message(word)).is_clean

    def reachable() -> Manifest:
        return condition(kubectl.get(RELAYS, "through", RELAY_NAMESPACE), "UpstreamReachable")

    eventually(
        lambda: reachable().get("reason") == "UpstreamAuthFailed",
        deadline=60,
        what="UpstreamReachable says UpstreamAuthFailed",
    )
    # Ready all the same: the queue takes the mail.
    kubectl.wait(RELAYS, "through", RELAY_NAMESPACE, "Ready", 5)
    assert sink.captured(word) == ()
    kubectl.apply(basic_auth("smarthost-login", RELAY_NAMESPACE, USERNAME, PASSWORD))
    arrived = sink.await_message(word, deadline=30)
    assert b"by smarthost.example.net (Postfix) with ESMTPSA" in arrived.content
    eventually(
        lambda: reachable().get("status") == "True",
        deadline=60,
        what="UpstreamReachable is True again",
    )
