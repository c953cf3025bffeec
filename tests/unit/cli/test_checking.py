"""One run finds everything, each thing once and with its line, and nothing that is not so."""

from datetime import UTC, datetime, timedelta

import pytest

from mailrelay_operator.cli.checking import Findings, examine
from mailrelay_operator.cli.documents import Reading, read_files, scan
from mailrelay_operator.cli.standalone import Standalone
from tests.peers.certificates import make

NOW = datetime(2030, 1, 31, 12, 0, tzinfo=UTC)
RELAY = """\
apiVersion: mailrelay.dev/v1alpha1
kind: MailRelay
metadata: {name: company, namespace: mail}
spec:
  hostname: relay.example.com
  listeners:
    - {name: submission, port: 587, tls: {mode: StartTLS, certificateRefs: [{name: cert}]}}
  allowedSenders:
    - {name: all, namespaces: {from: All}, addresses: ["*@example.com"]}
  upstreams:
    - name: out
      smarthost:
        hosts: [{host: smtp.example.net, port: 587}]
        auth: {basic: {secretRef: {name: login}}}
---
"""
SENDER = """\
apiVersion: mailrelay.dev/v1alpha1
kind: MailSender
metadata: {name: app, namespace: team}
spec:
  relayRef: {name: company, namespace: mail}
  from: ["*@example.com"]
  credentials: {secretName: app-smtp}
---
"""
LOGIN = """\
apiVersion: v1
kind: Secret
metadata: {name: login, namespace: mail, labels: {mailrelay.dev/credentials: "true"}}
stringData: {username: relay, password: secret}
---
"""


def certificate(names: tuple[str, ...] = ("relay.example.com",), **more: object) -> str:
    chain, key = make(names=names, now=NOW, **more)  # type: ignore[arg-type]
    parts = "\n".join(
        f"  {field}: |\n" + "".join(f"    {line}\n" for line in text.splitlines())
        for field, text in (("tls.crt", chain), ("tls.key", key))
    )
    return (
        "apiVersion: v1\nkind: Secret\ntype: kubernetes.io/tls\n"
        f"metadata: {{name: cert, namespace: mail}}\nstringData:\n{parts}---\n"
    )


def found(*texts: str) -> Findings:
    return examine(scan("x.yaml", "".join(texts)), now=NOW)


def said(*texts: str) -> list[str]:
    return [str(one) for one in found(*texts).problems]


def places(*texts: str) -> list[tuple[int, str]]:
    return [(one.line, one.path or one.sentence) for one in found(*texts).problems]


def test_files_that_can_be_used_are_left_in_peace() -> None:
    findings = found(RELAY, SENDER, LOGIN, certificate())
    assert (findings.problems, findings.warnings) == ((), ())


def test_a_login_that_was_brought_is_looked_at_too() -> None:
    brought = SENDER.replace("{secretName: app-smtp}", "{existingSecretRef: {name: old}}")
    login = LOGIN.replace("name: login, namespace: mail", "name: old, namespace: team")
    assert places(RELAY, brought, LOGIN, login, certificate()) == []
    unmarked = login.replace('"true"', '"no"')
    assert places(RELAY, brought, LOGIN, unmarked, certificate()) == [(22, "spec.credentials")]


def test_a_missing_reference_is_one_line_and_the_senders_are_checked_all_the_same() -> None:
    other = SENDER.replace("*@example.com", "*@example.org").replace("name: app", "name: other")
    assert places(RELAY, SENDER, other) == [
        (7, "spec.listeners[submission].tls.certificateRefs[0]"),
        (14, "spec.upstreams[out].smarthost.auth.basic.secretRef.name"),
        (29, "spec.from[0]"),
    ]


def test_mistakes_of_every_kind_are_found_in_one_run() -> None:
    relay = RELAY.replace("587}", "0}").replace(
        "  upstreams", "  resolver: {validating: true}\n  upstreams"
    )
    sender = SENDER.replace("*@example.com", "*@example.org").replace(
        "{secretName: app-smtp}", "{existingSecretRef: {name: nowhere}}"
    )
    stray = SENDER.replace("namespace: mail}", "namespace: other}").replace("app,", "b,")
    assert places(relay, sender, stray, SENDER.replace("app,", "c,").replace("from:", "form:")) == [
        (7, "spec.listeners[submission].tls.certificateRefs[0]"),
        (10, "spec.resolver"),
        (14, "spec.upstreams[out].smarthost.hosts[0].port"),
        (15, "spec.upstreams[out].smarthost.auth.basic.secretRef.name"),
        (22, "spec.from[0]"),
        (23, "spec.credentials"),
        (29, "spec.relayRef.name"),
        (38, "spec.form"),
    ]


def test_a_relay_with_a_mistake_accuses_no_sender() -> None:
    relay = RELAY.replace("from: All", "from: all")
    assert [line for line, _ in places(relay, SENDER, LOGIN, certificate())] == [9]


def test_a_secret_with_a_mistake_is_not_missing() -> None:
    login = LOGIN.replace("password: secret", "password: 12")
    assert said(RELAY, SENDER, login, certificate()) == [
        "x.yaml:27: Secret mail/login: stringData.password: must be a string, but YAML reads a"
        " number: put it in quotes."
    ]


def test_what_may_stand_in_a_part_that_cannot_be_read_is_not_called_missing() -> None:
    assert places(RELAY, SENDER, "a: [") == [
        (24, "not valid YAML: did not find expected node content (column 1).")
    ]


@pytest.mark.parametrize(
    ("secret", "words"),
    [
        (certificate(("other.example.com",)), "CertificateNameMismatch: No certificate of"),
        (certificate(starts=timedelta(days=2)), "is valid only from 2030-02-02T"),
        (
            certificate(starts=timedelta(days=-9), ends=timedelta(days=-1)),
            "expired on 2030-01-30; renew it.",
        ),
    ],
)
def test_a_certificate_that_clients_would_refuse_is_found(secret: str, words: str) -> None:
    (line,) = said(RELAY, SENDER, LOGIN, secret)
    assert line.startswith("x.yaml:7: MailRelay mail/company: spec.listeners[submission].tls.cert")
    assert words in line


def test_a_certificate_without_the_relay_s_name_stops_up_with_the_same_words() -> None:
    files = [RELAY, SENDER, LOGIN, certificate(("other.example.com",))]
    inventory = found(*files).inventory
    here = Standalone(
        relay=("mail", "company"), bind="127.0.0.1", admin_host="127.0.0.1", admin_port=8025
    )
    picture = here.plan(inventory, (), now=NOW)
    assert [str(one) for one in picture.problems] == said(*files)
    assert picture.files == {}


def test_a_relay_that_no_sender_names_is_a_warning() -> None:
    findings = found(RELAY, LOGIN, certificate())
    assert findings.problems == ()
    assert [str(one) for one in findings.warnings] == [
        "x.yaml:1: warning: MailRelay mail/company: No MailSender refers to this relay, so no"
        " client can log in."
    ]


def test_an_empty_file_is_a_warning_beside_others_and_a_mistake_alone() -> None:
    empty = Reading(documents=(), empty=("e.yaml",))
    assert [str(one) for one in examine(empty, now=NOW).problems] == [
        "e.yaml:1: contains no object."
    ]
    both = read_files(["-"], stdin=RELAY + SENDER + LOGIN + certificate())
    both = Reading(documents=both.documents, empty=("e.yaml",))
    findings = examine(both, now=NOW)
    assert findings.problems == ()
    assert [str(one) for one in findings.warnings] == ["e.yaml:1: warning: contains no object."]


def test_a_value_that_is_not_supported_yet_is_told_the_one_that_is() -> None:
    relay = RELAY.replace(
        "  upstreams",
        "  limits: {rates: [{name: a, scope: Relay, messages: 5, per: 1h}]}\n  upstreams",
    )
    (line,) = said(relay, SENDER, LOGIN, certificate())
    assert line == (
        "x.yaml:10: MailRelay mail/company: spec.limits.rates[a].per: Not supported in this"
        " version: write at most 60s."
    )
