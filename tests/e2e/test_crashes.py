"""Whatever dies, every message that was answered 250 arrives; what had been going on goes on."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.conftest import (
    MOUNTED,
    OPERATOR_NAMESPACE,
    RELAY_NAMESPACE,
    TEAM_NAMESPACE,
    Release,
    await_binding,
)
from tests.e2e.kubectl import Kubectl, Manifest, eventually
from tests.e2e.mail import Client, Report, Sink, plain_message, token
from tests.e2e.manifests import RELAYS, SENDERS, sender


def pod_uid(kubectl: Kubectl) -> str:
    pod = kubectl.get("pod", "relay-0", RELAY_NAMESPACE)
    return str(pod["metadata"]["uid"]) if pod else ""


def numbered(word: str, count: int) -> list[str]:
    return [f"{word}-{number:03d}" for number in range(count)]


def test_a_killed_operator_comes_back_and_goes_on(
    kubectl: Kubectl, release: Release, client: Client, sink: Sink, mail_relay: Manifest
) -> None:
    before = release.operator_pod()
    assert before is not None
    pod = before["metadata"]["name"]
    kubectl.run("delete", "pod", pod, "-n", OPERATOR_NAMESPACE, "--grace-period=0", "--force")
    kubectl.apply(sender("orphan", TEAM_NAMESPACE, relay=mail_relay))
    try:
        # The gateways need no operator.
        word = token()
        assert client.send(MOUNTED, plain_message(word)).is_clean
        sink.await_message(word)
        binding = await_binding(kubectl, "orphan-smtp", TEAM_NAMESPACE, deadline=90)
        assert client.login_code(binding) == 235
        after = release.operator_pod()
        assert after is not None and after["metadata"]["uid"] != before["metadata"]["uid"]
        kubectl.wait(RELAYS, "relay", RELAY_NAMESPACE, "Ready", 60)
    finally:
        kubectl.delete(SENDERS, "orphan", TEAM_NAMESPACE)


def test_a_gateway_that_is_deleted_by_force_keeps_its_queue(
    kubectl: Kubectl, client: Client, sink: Sink
) -> None:
    words = numbered(token(), 30)
    sink.down()
    try:
        assert client.send(MOUNTED, *map(plain_message, words)).accepted == len(words)
        before = pod_uid(kubectl)
        forced = ["--grace-period=0", "--force"]
        kubectl.run("delete", "pod", "relay-0", "-n", RELAY_NAMESPACE, *forced)
    finally:
        sink.up()
    eventually(lambda: pod_uid(kubectl) not in ("", before), deadline=60, what="a new pod relay-0")
    kubectl.wait("pod", "relay-0", RELAY_NAMESPACE, "Ready", 90)
    arrived = sink.await_words(set(words), prefix=words[0][:-4])
    # No attempt got as far as handing over a message, so none may come twice.
    assert sorted(arrived) == words


def process_in_pod(uid: str) -> int:
    """The gateway's process as this machine sees it; 0 where the node is another machine."""
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            groups = (folder / "cgroup").read_text()
            words = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if uid.replace("-", "_") in groups.replace("-", "_") and b"mailrelay_gateway" in words:
            return int(folder.name)
    return 0


def test_kill_9_while_mail_goes_in_and_out_loses_nothing(
    kubectl: Kubectl, client: Client, sink: Sink, record_property: Callable[[str, object], None]
) -> None:
    victim = process_in_pod(pod_uid(kubectl))
    if not victim or os.geteuid() != 0:
        pytest.skip("the node's processes are not this machine's: nothing to kill -9")
    words = numbered(token(), 600)
    reports: list[Report] = []
    sending = threading.Thread(
        target=lambda: reports.append(client.send(MOUNTED, *map(plain_message, words), pause=0.01))
    )
    sending.start()
    try:
        eventually(lambda: sink.captured(words[0]), deadline=30, what="the first message")
        os.kill(victim, signal.SIGKILL)
    finally:
        sending.join()
    (report,) = reports
    accepted = words[: report.accepted]
    assert 0 < len(accepted) < len(words), report
    kubectl.wait("pod", "relay-0", RELAY_NAMESPACE, "Ready", 90)
    arrived = sink.await_words(set(accepted), prefix=words[0][:-4], deadline=90)
    # What was under way when it died may come twice: it is uncertain, and counted as such.
    record_property("accepted", len(accepted))
    record_property("duplicates", len(arrived) - len(set(arrived)))
    again = eventually(
        lambda: client.send(MOUNTED, plain_message(token())).is_clean,
        deadline=30,
        what="mail is taken again",
    )
    assert again
