"""Documents become objects as a cluster would hold them, or are refused as it would."""

import re

import pytest

from mailrelay_operator.cli.documents import FilesUnusable, parse_documents
from mailrelay_operator.cli.inventory import Inventory, choose_relay, take_inventory
from mailrelay_operator.cli.unsupported import find_unsupported

RELAY = """
apiVersion: mailrelay.dev/v1alpha1
kind: MailRelay
metadata: {name: NAME, namespace: mail}
spec:
  hostname: relay.example.com
  listeners: [{name: submission, port: 2525}]
  upstreams: [{name: capture, sandbox: {}}]
---
"""
SECRET = """
apiVersion: v1
kind: Secret
metadata: {name: login}
"""


def inventory(text: str) -> Inventory:
    return take_inventory(parse_documents("x.yaml", text))


def complaints(text: str) -> str:
    with pytest.raises(FilesUnusable) as caught:
        inventory(text)
    return str(caught.value)


def relay(name: str) -> str:
    return RELAY.replace("NAME", name)


def test_objects_get_the_same_uid_at_every_start_and_each_its_own() -> None:
    first, again = inventory(relay("a") + relay("b")), inventory(relay("b") + relay("a"))
    uids = {key: one["metadata"]["uid"] for key, one in first.relays.items()}
    assert uids == {key: one["metadata"]["uid"] for key, one in again.relays.items()}
    assert len(set(uids.values())) == 2


def test_a_status_that_was_copied_along_is_dropped() -> None:
    text = relay("a").replace("---", "status: {readyReplicas: 3}\n---")
    assert "status" not in inventory(text).relays["mail", "a"]


def test_a_namespace_in_no_file_has_no_labels() -> None:
    found = inventory(
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: team, labels: {mail: yes-it-is}}\n"
    )
    assert found.namespace("team")["metadata"]["labels"] == {"mail": "yes-it-is"}
    assert found.namespace("other")["metadata"]["labels"] == {}


def test_other_kinds_are_ignored_and_named() -> None:
    found = inventory("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\n")
    assert found.ignored == ("Deployment default/web",)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("kind: Secret\n", "x.yaml:1: Secret default/?: apiVersion is required."),
        ("apiVersion: v1\nkind: Secret\n", "metadata.name: is required."),
        (relay("Big"), 'metadata.name: "Big": is not a valid object name'),
        (relay("a") + relay("a"), "MailRelay mail/a is also in x.yaml:2: remove one of them."),
        (
            relay("a").replace("hostname:", "hostnam:"),
            "x.yaml:6: MailRelay mail/a: spec.hostnam: Unknown field; did you mean hostname?",
        ),
        (
            relay("a").replace("2525", "x"),
            'x.yaml:7: MailRelay mail/a: spec.listeners[submission].port: "x": Must be a whole'
            " number.",
        ),
        (relay("a").replace("v1alpha1", "v9"), "Must be mailrelay.dev/v1alpha1."),
        (relay("a").replace("kind: MailRelay", "kind: MailRely"), "did you mean MailRelay?"),
        (
            relay("a").replace("2525", "'2525'"),
            "Must be a whole number: write 2525 without quotes.",
        ),
        (
            relay("a").replace("port: 2525", "port: 2525, tls: {mode: starttls}"),
            "Must be 'None', 'StartTLS' or 'Implicit'; did you mean StartTLS?",
        ),
        (
            relay("a").replace("relay.example.com", "12"),
            'Must be a string: write "12", with quotes.',
        ),
        (
            relay("a").replace("port: 2525", "port: 2525, tls: {certificateRefs: [cert]}"),
            "Must be an object: write {name: cert}.",
        ),
        (
            relay("a").replace("mailrelay.dev", "mailrelay.io"),
            "must be mailrelay.dev/v1alpha1 for MailRelay",
        ),
        (
            relay("a").replace("mailrelay.dev", "mailrely.dev").replace("Relay\n", "Relai\n"),
            "Did you mean mailrelay.dev/v1alpha1?",
        ),
        (SECRET.replace("v1", "core/v1"), "must be v1 for Secret."),
        (SECRET + "stringData: {password: 12345}\n", "stringData.password: must be a string"),
        (
            SECRET + "data: {password: 'pass word!'}\n",
            "is not base64; put plain text into stringData.",
        ),
        (SECRET + "data: [a]\n", "data: must be a map"),
        (
            "apiVersion: v1\nkind: Namespace\nmetadata: {name: a, labels: {mail: yes}}\n",
            'metadata.labels.mail: True: must be a string; write mail: "true".',
        ),
    ],
)
def test_what_a_cluster_would_refuse_is_refused_with_its_place(text: str, said: str) -> None:
    assert said in complaints(text)


def test_a_password_is_never_shown_in_a_complaint() -> None:
    said = complaints(SECRET + "stringData: {password: 847261}\ndata: {other: 'hunter two!'}\n")
    assert "847261" not in said
    assert "hunter" not in said


def test_everything_wrong_is_named_at_once() -> None:
    said = complaints(relay("A") + relay("b").replace("2525", "x") + SECRET + "data: {a: '!'}\n")
    assert re.findall(r"^x.yaml:(\d+): ", said, re.MULTILINE) == ["4", "16", "23"]


def test_the_only_relay_is_chosen() -> None:
    assert choose_relay(inventory(relay("a")), None) == ("mail", "a")


@pytest.mark.parametrize("wanted", ["mail/b", "b"])
def test_a_relay_is_chosen_by_name(wanted: str) -> None:
    assert choose_relay(inventory(relay("a") + relay("b")), wanted) == ("mail", "b")


@pytest.mark.parametrize(
    ("text", "wanted", "said"),
    [
        ("", None, "The files contain no MailRelay"),
        (relay("a") + relay("b"), None, r"2 MailRelays \(mail/a, mail/b\).*--relay mail/a"),
        (relay("a"), "c", "--relay c: not in the files; choose one of mail/a"),
        (
            relay("a") + relay("a").replace("mail}", "other}"),
            "a",
            "--relay a: not in the files; choose one of",
        ),
    ],
)
def test_a_relay_that_is_not_clear_is_asked_for(text: str, wanted: str | None, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        choose_relay(inventory(text), wanted)


def test_each_field_that_is_not_supported_is_named_with_its_line() -> None:
    text = relay("a").replace(
        "spec:", "spec:\n  serviceAccountTokens: {}\n  queue: {storage: {}, maxMessages: 5}"
    )
    said = [str(problem) for _, problem in find_unsupported(inventory(text))]
    remedy = "Not supported in this version: remove it."
    assert said == [
        f"x.yaml:6: MailRelay mail/a: spec.serviceAccountTokens: {remedy}",
        f"x.yaml:7: MailRelay mail/a: spec.queue.maxMessages: {remedy}",
    ]


def test_a_kind_that_is_not_supported_is_named() -> None:
    text = """
apiVersion: mailrelay.dev/v1alpha1
kind: MailDomain
metadata: {name: d}
spec: {domain: example.com, relayRef: {name: a}, dkim: [{selector: s, algorithm: Ed25519}]}
"""
    ((_, problem),) = find_unsupported(inventory(text))
    assert "MailDomain is not supported" in problem.sentence
