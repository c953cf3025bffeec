"""One true path: YAML, Secret, STARTTLS, queue, smarthost; byte for byte, and visible."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from tests.e2e.conftest import (
    MOUNTED,
    OPERATOR_NAMESPACE,
    RELAY_NAMESPACE,
    TEAM_NAMESPACE,
    Release,
)
from tests.e2e.kubectl import Kubectl, condition, eventually
from tests.e2e.mail import Binding, Client, Sink, plain_message, token
from tests.e2e.manifests import RELAYS, SENDERS


def awkward(word: str) -> bytes:
    """What breaks careless relays: lines of dots, 8-bit text, white space, empty lines."""
    return plain_message(word) + (
        b".\r\n..\r\n.leading dot\r\n...\r\n\r\ntrailing space \r\n\ttab\r\n"
        + "Grüße, größer als ASCII: €\r\n".encode()
        + b"x" * 998
        + b"\r\n\r\n\r\nend"
        + b"\r\n"
    )


def large(word: str) -> bytes:
    """Above 256 KiB: the spool keeps such a body in a file."""
    return plain_message(word) + b"0123456789abcdef\r\n" * 40_000


def without_trace(content: bytes) -> tuple[bytes, bytes]:
    """The Received header that the gateway put in front, and the rest."""
    trace = re.match(rb"Received: [^\n]*\n(?:[ \t][^\n]*\n)*", content)
    assert trace, content[:200]
    return trace[0], content[trace.end() :]


@pytest.mark.parametrize("make", [plain_message, awkward, large])
def test_mail_arrives_byte_for_byte_save_the_trace_header(
    make: Callable[[str], bytes], client: Client, sink: Sink
) -> None:
    word = token()
    message = make(word)
    report = client.send(MOUNTED, message, recipients=("one@example.net", "two@example.net"))
    assert (report.is_clean, report.tls) == (True, "TLSv1.3"), report
    arrived = sink.await_message(word)
    trace, rest = without_trace(arrived.content)
    assert rest == message.replace(b"\r\n", b"\n")
    assert (arrived.mail, set(arrived.rcpt)) == (
        ("app@example.com",),
        {"one@example.net", "two@example.net"},
    )
    assert b"by relay.example.com" in trace and b"ESMTPSA" in trace
    # The same id in the 250 reply and in Received.
    (queue_id,) = re.findall(r"\b[0-9A-Za-z]{26}\b", report.replies[0][1])
    assert queue_id.encode() in trace


def test_swaks_submits_with_the_secret(kubectl: Kubectl, client: Client, sink: Sink) -> None:
    word = token()
    script = (
        f"cd {MOUNTED} && swaks --server $(cat host) --port $(cat port) --tls --tls-verify"
        " --tls-ca-path ca.crt --auth PLAIN --auth-user $(cat username)"
        " --auth-password $(cat password) --from app@example.com --to someone@example.net"
        f" --header 'Subject: {word}'"
    )
    kubectl.exec(client.pod, client.namespace, "sh", "-c", script)
    assert b"Subject: " + word.encode() in sink.await_message(word).content


def metric(kubectl: Kubectl, name: str, **labels: str) -> float:
    """The sum of a metric's series that carry these labels, of the relay's pod."""
    text = kubectl.raw(
        f"/api/v1/namespaces/{RELAY_NAMESPACE}/pods/https:relay-0:8025/proxy/metrics"
    )
    wanted = [f'{label}="{value}"' for label, value in labels.items()]
    return sum(
        float(line.rsplit(" ", 1)[1])
        for line in text.splitlines()
        if line.startswith(f"{name}{{") and all(pair in line for pair in wanted)
    )


def test_what_went_in_and_out_is_counted(kubectl: Kubectl, client: Client, sink: Sink) -> None:
    received = {"listener": "submission", "sender_namespace": TEAM_NAMESPACE}
    delivered = {"upstream": "smarthost", "result": "delivered", "code_class": "2xx"}
    before_in = metric(kubectl, "mailrelay_received_messages_total", **received)
    before_out = metric(kubectl, "mailrelay_delivery_attempts_total", **delivered)
    words = [token() for _ in range(3)]
    assert client.send(MOUNTED, *map(plain_message, words)).is_clean
    for word in words:
        sink.await_message(word)
    assert metric(kubectl, "mailrelay_received_messages_total", **received) == before_in + 3
    eventually(
        lambda: metric(kubectl, "mailrelay_delivery_attempts_total", **delivered) == before_out + 3,
        deadline=10,
        what="three more deliveries in /metrics",
    )
    eventually(
        lambda: metric(kubectl, "mailrelay_queue_recipients", upstream="smarthost") == 0,
        deadline=10,
        what="an empty queue in /metrics",
    )


def test_the_operator_counts_its_rounds_and_conditions(
    kubectl: Kubectl, release: Release, app: Binding
) -> None:
    pod = release.operator_pod()
    assert pod is not None
    path = f"/api/v1/namespaces/{OPERATOR_NAMESPACE}/pods/{pod['metadata']['name']}:9090"
    text = kubectl.raw(f"{path}/proxy/metrics")
    rounds = re.search(
        r'^mailrelay_reconcile_total\{kind="MailRelay",result="ok"\} ([0-9.]+)$', text, re.MULTILINE
    )
    assert rounds and float(rounds[1]) > 0
    assert "mailrelay_backlog " in text and "mailrelay_conditions{" in text


def test_a_sender_address_that_is_not_ours_is_refused(client: Client) -> None:
    report = client.send(MOUNTED, plain_message(token()), sender="ceo@other.example")
    assert report.replies[0][0] == 550, report


def test_a_wrong_password_is_refused(client: Client, app: Binding) -> None:
    assert client.login_code(app.with_login(app.username, "wrong")) == 535


def test_kubectl_shows_who_is_ready_and_why(kubectl: Kubectl, app: Binding) -> None:
    kubectl.wait(SENDERS, "app", TEAM_NAMESPACE, "Ready", 30)
    head, line = kubectl.run("get", "mrelay", "-n", RELAY_NAMESPACE).splitlines()[:2]
    columns = dict(zip(head.split(), line.split(), strict=False))
    assert {k: columns[k] for k in ("NAME", "READY", "REASON")} == {
        "NAME": "relay",
        "READY": "1/1",
        "REASON": "Ready",
    }
    head, line = kubectl.run("get", "msender", "app", "-n", TEAM_NAMESPACE).splitlines()
    columns = dict(zip(head.split(), line.split(), strict=False))
    assert columns["READY"] == "True"
    assert (columns["RELAY"], columns["USERNAME"], columns["SECRET"]) == (
        "relay",
        f"{TEAM_NAMESPACE}.app",
        "app-smtp",
    )


def test_every_condition_is_written_for_the_newest_generation(
    kubectl: Kubectl, mail_relay: object, app: Binding
) -> None:
    found = kubectl.get(RELAYS, "relay", RELAY_NAMESPACE)
    assert found is not None
    for type_ in ("Accepted", "ResolvedRefs", "Programmed", "Durable", "Ready"):
        seen = condition(found, type_)
        assert (seen["status"], seen["observedGeneration"]) == (
            "True",
            found["metadata"]["generation"],
        ), seen
    assert eventually(
        lambda: (kubectl.get(RELAYS, "relay", RELAY_NAMESPACE) or {})["status"]["attachedSenders"],
        deadline=90,
        what="status.attachedSenders",
    )


def test_the_secret_is_a_service_binding(kubectl: Kubectl, app: Binding) -> None:
    secret = kubectl.get("secret", "app-smtp", TEAM_NAMESPACE)
    assert secret is not None and secret["type"] == "servicebinding.io/smtp"
    assert set(secret["data"]) == {
        "type", "provider", "host", "port", "username", "password", "tls", "uri", "ca.crt",
    }  # fmt: skip
    assert app.username == f"{TEAM_NAMESPACE}.app"
    assert app.host.startswith(f"relay.{RELAY_NAMESPACE}")
