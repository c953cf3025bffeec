"""The example for Office 365 with peers in the cluster: as it stands, by the application's secret,
and without any secret, by the pod's own token, which is held against the cluster's keys.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.conftest import TEAM_NAMESPACE, Release, await_binding
from tests.e2e.kubectl import Kubectl, Manifest, condition, eventually
from tests.e2e.mail import Client, plain_message, token
from tests.e2e.manifests import (
    RELAYS,
    SENDERS,
    address,
    namespace,
    peer_pod,
    peer_service,
    sender,
)
from tests.peers.certificates import certificate
from tests.peers.token_endpoint import CLIENT_ID, CLIENT_SECRET

ROOT = Path(__file__).resolve().parents[2]
NAMESPACE = "e2e-oauth2"
FEDERATED = "federated"
HOST = address("microsoft", NAMESPACE)
SMTP, HTTPS = 8465, 8443
AUDIENCE = "api://AzureADTokenExchange"


def opaque(name: str, **data: str) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": name,
            "namespace": NAMESPACE,
            "labels": {"mailrelay.dev/credentials": "true"},
        },
        "stringData": data,
    }


@pytest.fixture(scope="module")
def microsoft(kubectl: Kubectl, release: Release) -> Iterator[str]:
    """The peers, which know the cluster's keys; and their address is one that gateways may ask."""
    kubectl.apply(namespace(NAMESPACE))
    tls = certificate(HOST)
    facts = {
        "issuer": json.loads(kubectl.raw("/.well-known/openid-configuration"))["issuer"],
        "jwks": json.loads(kubectl.raw("/openid/v1/jwks")),
        "subject": f"system:serviceaccount:{NAMESPACE}:{FEDERATED}-gateway",
    }
    scripts = {
        "microsoft.py": (ROOT / "tests/e2e/peers/microsoft.py").read_text(),
        "token_endpoint.py": (ROOT / "tests/peers/token_endpoint.py").read_text(),
        "facts.json": json.dumps(facts),
    }
    pod = peer_pod(
        "microsoft",
        NAMESPACE,
        ["python", "/scripts/microsoft.py"],
        secrets={"/scripts": "scripts", "/tls": "tls"},
        port=SMTP,
    )
    pod["spec"]["containers"][0]["image"] = os.environ.get(
        "MAILRELAY_GATEWAY_IMAGE", "mailrelay-gateway:e2e"
    )
    service = peer_service("microsoft", NAMESPACE, SMTP)
    service["spec"]["ports"] = [
        {"name": f"port-{port}", "port": port, "targetPort": port} for port in (SMTP, HTTPS)
    ]
    kubectl.apply(
        opaque("scripts", **scripts),
        opaque("tls", **{"tls.crt": tls.chain, "tls.key": tls.key}),
        opaque("entra-app", **{"client-secret": CLIENT_SECRET}),
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "microsoft-ca", "namespace": NAMESPACE},
            "data": {"ca.crt": tls.chain},
        },
        service,
        pod,
    )
    kubectl.wait("pod", "microsoft", NAMESPACE, "Ready", 60)
    found = kubectl.get("service", "microsoft", NAMESPACE)
    assert found is not None
    yield f"{found['spec']['clusterIP']}/32"
    # First the pods: of a namespace that has some the API server takes minutes to look again.
    kubectl.run("delete", RELAYS, "--all", "--namespace", NAMESPACE)
    eventually(
        lambda: not kubectl.items("pods", NAMESPACE, "mailrelay.dev/relay"),
        deadline=60,
        what="no gateway is left",
    )
    kubectl.run("delete", "namespace", NAMESPACE, "--wait=false")
    release.upgrade()


def example(name: str, **login: Any) -> Manifest:
    """The example's MailRelay with the peers' addresses, admitting the tenant's namespace."""
    objects = yaml.safe_load_all((ROOT / "examples/5-office365.yaml").read_text())
    (relay,) = [one for one in objects if one["kind"] == "MailRelay"]
    relay["metadata"] = {"name": name, "namespace": NAMESPACE}
    relay["spec"]["allowedSenders"] = [
        {
            "name": "teams",
            "namespaces": {"from": "Selector", "selector": {"matchLabels": {"mail": "allowed"}}},
            "addresses": ["*@example.com"],
        }
    ]
    relay["spec"]["queue"] = {"storage": {"size": "256Mi"}}
    smarthost = relay["spec"]["upstreams"][0]["smarthost"]
    trust = {"kind": "ConfigMap", "name": "microsoft-ca"}
    smarthost["hosts"] = [{"host": HOST, "port": SMTP}]
    smarthost["tls"] = {"mode": "Implicit", "caRef": trust}
    smarthost["auth"]["oauth2"] |= {
        "tokenURL": f"https://{HOST}:{HTTPS}/token",
        "tokenCARef": trust,
        "clientID": CLIENT_ID,
        **login,
    }
    return dict(relay)


def reachable(kubectl: Kubectl, name: str) -> Manifest:
    return condition(kubectl.get(RELAYS, name, NAMESPACE), "UpstreamReachable")


def delivered(kubectl: Kubectl, client: Client, relay: Manifest) -> None:
    """A mail of the tenant's through this relay is at Microsoft."""
    name = relay["metadata"]["name"]
    kubectl.apply(sender(name, TEAM_NAMESPACE, relay=relay))
    binding = await_binding(kubectl, f"{name}-smtp", TEAM_NAMESPACE)
    word = token()
    assert client.send(binding, plain_message(word)).is_clean

    def arrived() -> bool:
        lines = kubectl.run("logs", "microsoft", "-n", NAMESPACE).splitlines()
        taken = [json.loads(line) for line in lines if line.startswith("{")]
        return any(word in one["body"] and one["user"] == "robot@example.com" for one in taken)

    eventually(arrived, deadline=60, what="the mail at Microsoft")
    kubectl.delete(SENDERS, name, TEAM_NAMESPACE)


def test_the_example_is_ready_and_sends_once_the_endpoint_is_allowed(
    kubectl: Kubectl, release: Release, client: Client, microsoft: str
) -> None:
    made = example("office365")
    kubectl.apply(made)
    kubectl.wait(RELAYS, "office365", NAMESPACE, "Ready", 120)
    # An address inside the cluster is nobody's to name, unless the platform says so.
    eventually(
        lambda: reachable(kubectl, "office365").get("reason") == "UpstreamTokenUrlNotAllowed",
        deadline=90,
        what="UpstreamReachable says UpstreamTokenUrlNotAllowed",
    )
    assert "allowedEgressCIDRs" in reachable(kubectl, "office365")["message"]
    release.upgrade(allowedEgressCIDRs=[microsoft])
    delivered(kubectl, client, made)
    eventually(
        lambda: reachable(kubectl, "office365").get("status") == "True",
        deadline=90,
        what="UpstreamReachable is True",
    )


def test_without_a_secret_the_pod_s_own_token_is_taken(
    kubectl: Kubectl, release: Release, client: Client, microsoft: str
) -> None:
    release.upgrade(allowedEgressCIDRs=[microsoft])
    made = example(FEDERATED, flow="Federated")
    del made["spec"]["upstreams"][0]["smarthost"]["auth"]["oauth2"]["clientSecretRef"]
    kubectl.apply(made)
    kubectl.wait(RELAYS, FEDERATED, NAMESPACE, "Ready", 120)
    delivered(kubectl, client, made)
    (pod,) = kubectl.items("pods", NAMESPACE, f"mailrelay.dev/relay={FEDERATED}")
    assert pod["spec"]["automountServiceAccountToken"] is False
    shown = kubectl.exec(
        pod["metadata"]["name"],
        NAMESPACE,
        "python",
        "-c",
        "import pathlib; p = pathlib.Path('/var/run/secrets/mailrelay/tokens');"
        " print([f.read_text() for f in p.iterdir() if f.is_file()][0])",
    )
    body = shown.split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    assert claims["aud"] == [AUDIENCE]


def test_another_relay_s_token_is_refused_in_the_endpoint_s_words(
    kubectl: Kubectl, release: Release, microsoft: str
) -> None:
    release.upgrade(allowedEgressCIDRs=[microsoft])
    made = example("stranger", flow="Federated")
    del made["spec"]["upstreams"][0]["smarthost"]["auth"]["oauth2"]["clientSecretRef"]
    kubectl.apply(made)
    eventually(
        lambda: reachable(kubectl, "stranger").get("reason") == "UpstreamTokenRefused",
        deadline=120,
        what="UpstreamReachable says UpstreamTokenRefused",
    )
    words = reachable(kubectl, "stranger")["message"]
    assert "invalid_client (700213)" in words
    assert f"system:serviceaccount:{NAMESPACE}:stranger-gateway" in words


def test_an_audience_that_the_chart_does_not_allow_is_named(
    kubectl: Kubectl, release: Release, microsoft: str
) -> None:
    made = example("elsewhere", flow="Federated", audience="elsewhere")
    del made["spec"]["upstreams"][0]["smarthost"]["auth"]["oauth2"]["clientSecretRef"]
    kubectl.apply(made)

    def resolved() -> Manifest:
        return condition(kubectl.get(RELAYS, "elsewhere", NAMESPACE), "ResolvedRefs")

    eventually(
        lambda: resolved().get("reason") == "AudienceNotAllowed",
        deadline=60,
        what="ResolvedRefs says AudienceNotAllowed",
    )
    assert "tokenAudiences" in resolved()["message"]
