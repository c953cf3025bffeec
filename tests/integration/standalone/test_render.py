"""`mailrelay render` shows what the operator would apply, and no secret of anybody."""

import yaml

from mailrelay_operator import __version__
from tests.integration.standalone.conftest import ROOT, invoke, sandbox_yaml
from tests.integration.standalone.test_what_cannot_run import SMARTHOST

LOGIN = """
---
apiVersion: v1
kind: Secret
metadata: {name: upstream, namespace: mail, labels: {mailrelay.dev/credentials: "true"}}
type: kubernetes.io/basic-auth
stringData: {username: relay, password: hunter-twelve}
---
apiVersion: mailrelay.dev/v1alpha1
kind: MailSender
metadata: {name: app, namespace: mail}
spec:
  relayRef: {name: company}
  from: ["*@example.com"]
  credentials: {secretName: app-smtp}
"""


def test_it_shows_every_object_and_mints_nothing() -> None:
    done = invoke("render", "-", stdin=sandbox_yaml(2525))
    assert done.returncode == 0, done.stderr
    again = invoke("render", "-", stdin=sandbox_yaml(2525))
    assert done.stdout == again.stdout
    objects = list(yaml.safe_load_all(done.stdout))
    kinds = {(one["kind"], one["metadata"]["name"]) for one in objects}
    assert {
        ("StatefulSet", "sandbox"),
        ("Service", "sandbox"),
        ("NetworkPolicy", "sandbox-gateway"),
        ("PodDisruptionBudget", "sandbox"),
        ("Secret", "sandbox-config"),
        ("Secret", "demo-smtp"),
    } <= kinds
    (tenant,) = [one for one in objects if one["metadata"]["name"] == "demo-smtp"]
    (stateful_set,) = [one for one in objects if one["kind"] == "StatefulSet"]
    (container,) = stateful_set["spec"]["template"]["spec"]["containers"]
    assert container["image"] == f"mailrelay-gateway:{__version__}"
    assert tenant["stringData"]["password"] == "<minted>"
    assert tenant["stringData"]["host"] == "sandbox.default.svc"


def test_a_login_of_the_files_is_not_shown() -> None:
    done = invoke("render", "-", stdin=SMARTHOST + LOGIN)
    assert done.returncode == 0, done.stderr
    assert "hunter-twelve" not in done.stdout
    secrets = [one for one in yaml.safe_load_all(done.stdout) if one["kind"] == "Secret"]
    assert secrets
    assert not any("data" in secret for secret in secrets)
    plain = {"type", "provider", "host", "port", "username", "tls"}
    shown = {v for one in secrets for k, v in one["stringData"].items() if k not in plain}
    assert shown == {"<minted>", "<redacted>"}


def test_a_missing_secret_is_said_and_ends_with_2() -> None:
    done = invoke("render", "-", stdin=SMARTHOST)
    assert done.returncode == 2
    assert "Secret mail/upstream of upstream smarthost does not exist; create it." in done.stderr


def test_a_login_by_token_shows_its_volume_and_none_of_its_secrets() -> None:
    text = (ROOT / "examples" / "5-office365.yaml").read_text()
    secret = "            clientSecretRef: {name: entra-app, key: client-secret}\n"
    assert secret in text
    federated = text.replace(secret, "            audience: my-idp\n")
    federated = federated.replace("flow: ClientCredentials", "flow: Federated")
    for content, volume in ((text, False), (federated, True)):
        done = invoke("render", "-", stdin=content)
        assert done.returncode == 0, done.stderr
        assert "replace-me" not in done.stdout
        assert ("audience: my-idp" in done.stdout) is volume
