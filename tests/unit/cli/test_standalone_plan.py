"""Files and what was kept become the gateway's configuration: the same again at every start."""

from datetime import UTC, datetime, timedelta

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.x509 import Certificate

from mailrelay_gateway.contract.documents import ScryptVerifier
from mailrelay_gateway.contract.files import GatewayConfig, load
from mailrelay_gateway.contract.pem import read_bundle
from mailrelay_operator.cli.documents import parse_documents
from mailrelay_operator.cli.inventory import take_inventory
from mailrelay_operator.cli.standalone import Picture, Standalone
from mailrelay_operator.plan.objects import Manifest

NOW = datetime(2030, 1, 31, 12, 0, tzinfo=UTC)
RELAY = """
apiVersion: mailrelay.dev/v1alpha1
kind: MailRelay
metadata: {name: company, namespace: mail}
spec:
  hostname: relay.example.com
  listeners: [{name: submission, port: 587}]
  allowedSenders:
    - {name: own, namespaces: {from: Same}}
    - name: teams
      addresses: ["*@b.example"]
      namespaces: {from: Selector, selector: {matchLabels: {mail: allowed}}}
  upstreams: [{name: capture, sandbox: {}}]
---
"""
SENDER = """
apiVersion: mailrelay.dev/v1alpha1
kind: MailSender
metadata: {name: app, namespace: mail}
spec:
  relayRef: {name: company}
  from: ["*@a.example"]
  credentials: {secretName: app-smtp}
---
"""
BROUGHT = """
apiVersion: v1
kind: Secret
metadata: {name: old, namespace: team, labels: {mailrelay.dev/credentials: "true"}}
type: kubernetes.io/basic-auth
stringData: {username: someone, password: brought along}
---
apiVersion: mailrelay.dev/v1alpha1
kind: MailSender
metadata: {name: moved, namespace: team}
spec:
  relayRef: {name: company, namespace: mail}
  from: ["*@b.example"]
  credentials: {existingSecretRef: {name: old}}
---
"""
ADMITTED = "apiVersion: v1\nkind: Namespace\nmetadata: {name: team, labels: {mail: allowed}}\n---\n"


def plan(
    text: str, kept: tuple[Manifest, ...] = (), *, now: datetime = NOW, bind: str = "127.0.0.1"
) -> Picture:
    standalone = Standalone(
        relay=("mail", "company"), bind=bind, admin_host="127.0.0.1", admin_port=8025
    )
    return standalone.plan(take_inventory(parse_documents("relay.yaml", text)), kept, now=now)


def config(picture: Picture) -> GatewayConfig:
    assert picture.problems == ()
    return load(picture.files)


def test_a_restart_changes_nothing() -> None:
    first = plan(RELAY + SENDER + ADMITTED + BROUGHT)
    again = plan(RELAY + SENDER + ADMITTED + BROUGHT, first.secrets, now=NOW + timedelta(days=1))
    assert again.files == first.files
    assert again.endpoint == first.endpoint
    assert again.secrets == first.secrets


@pytest.mark.parametrize(
    "first",
    [NOW - timedelta(days=3651), NOW + timedelta(days=30)],
    ids=["expired", "valid only later"],
)
def test_a_ca_that_serves_nobody_is_replaced(first: datetime) -> None:
    before = plan(RELAY + SENDER, now=first)
    after = plan(RELAY + SENDER, before.secrets, now=NOW)
    assert after.authority != before.authority
    authority = read_bundle(after.authority, field="ca.crt").certificates[0]
    (listener,) = config(after).relay.listeners
    leaf = read_bundle(listener.tls.certificates[0].chain, field="tls.crt").certificates[0]
    leaf.verify_directly_issued_by(authority)
    for one in (authority, leaf):
        assert one.not_valid_before_utc <= NOW < one.not_valid_after_utc
    again = plan(RELAY + SENDER, after.secrets, now=NOW + timedelta(days=1))
    assert again.files == after.files
    assert again.authority == after.authority


def test_a_new_ca_stands_beside_the_one_that_expires() -> None:
    first = NOW - timedelta(days=3600)
    old = plan(RELAY + SENDER, now=first)
    both = plan(RELAY + SENDER, old.secrets, now=NOW)
    assert both.authority.startswith(old.authority)
    assert len(read_bundle(both.authority, field="ca.crt").certificates) == 2
    assert issuer(both) == issuer(old)
    later = plan(RELAY + SENDER, both.secrets, now=NOW + timedelta(days=29))
    assert later.authority == both.authority
    assert issuer(later) == issuer(old)
    after = plan(RELAY + SENDER, later.secrets, now=NOW + timedelta(days=30))
    assert issuer(after) == read_bundle(both.authority, field="ca.crt").certificates[1]
    assert set(read_bundle(after.authority, field="ca.crt").certificates) == set(
        read_bundle(both.authority, field="ca.crt").certificates
    )


def issuer(picture: Picture) -> Certificate:
    """The CA, of those that clients know, that issued what the gateway serves."""
    (listener,) = config(picture).relay.listeners
    leaf = read_bundle(listener.tls.certificates[0].chain, field="tls.crt").certificates[0]
    found = read_bundle(picture.authority, field="ca.crt").certificates
    (one,) = (each for each in found if leaf.issuer == each.subject and _issued(each, leaf))
    return one


def _issued(authority: Certificate, leaf: Certificate) -> bool:
    try:
        leaf.verify_directly_issued_by(authority)
    except InvalidSignature:
        return False
    return True


def test_the_login_that_is_printed_is_the_one_that_the_gateway_knows() -> None:
    picture = plan(RELAY + SENDER)
    (login,) = picture.endpoint.logins
    assert (login.sender, login.username, len(login.password)) == ("mail/app", "mail.app", 43)
    (sender,) = config(picture).senders
    assert sender.username == login.username
    assert sender.addresses == ("*@a.example",)


def test_a_brought_password_is_verified_by_scrypt_and_not_kept() -> None:
    picture = plan(RELAY + ADMITTED + BROUGHT)
    (sender,) = config(picture).senders
    assert sender.username == "someone"
    assert isinstance(sender.verifiers[0], ScryptVerifier)
    (login,) = picture.endpoint.logins
    assert login.password == ""
    assert "brought along" not in repr([secret["data"] for secret in picture.secrets])


def test_a_namespace_without_its_label_is_not_admitted_and_the_place_is_named() -> None:
    (problem,) = map(str, plan(RELAY + BROUGHT).problems)
    assert problem.startswith(
        "relay.yaml:26: MailSender team/moved: spec.relayRef: NamespaceNotAllowed:"
    )


def test_ports_are_bound_as_they_are_written_and_one_gateway_runs() -> None:
    text = (RELAY + SENDER).replace("hostname:", "replicas: 3\n  hostname:")
    picture = plan(text)
    relay = config(picture).relay
    assert [listener.port for listener in relay.listeners] == [587]
    assert relay.replicas == 1
    assert any("replicas: 3" in warning for warning in picture.warnings)


@pytest.mark.parametrize(
    ("bind", "client"),
    [
        ("0.0.0.0", "127.0.0.1"),
        ("::", "::1"),
        ("127.0.0.1", "127.0.0.1"),
        ("192.0.2.7", "192.0.2.7"),
    ],
)
def test_clients_get_an_address_that_they_can_connect_to(bind: str, client: str) -> None:
    (listener,) = plan(RELAY + SENDER, bind=bind).endpoint.listeners
    assert listener.host == client


def test_a_sender_that_is_gone_can_log_in_no_more() -> None:
    first = plan(RELAY + SENDER)
    again = plan(RELAY, first.secrets)
    assert config(again).senders == ()
    assert again.warnings == (
        "No MailSender refers to MailRelay mail/company: no client can log in.",
    )


def test_an_old_certificate_is_renewed_by_the_same_ca() -> None:
    first = plan(RELAY + SENDER)
    later = plan(RELAY + SENDER, first.secrets, now=NOW + timedelta(days=80))
    assert later.files != first.files
    assert later.authority == first.authority


def test_a_secret_of_the_files_under_a_minted_name_is_left_alone() -> None:
    text = (
        RELAY
        + SENDER
        + BROUGHT.partition("---")[0].replace(
            "name: old, namespace: team", "name: app-smtp, namespace: mail"
        )
    )
    (problem,) = map(str, plan(text).problems)
    assert (
        "relay.yaml:22: MailSender mail/app: spec.credentials: NotOwned: Secret mail/app-smtp"
        " exists and was not written" in problem
    )
