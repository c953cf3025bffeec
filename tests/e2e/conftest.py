"""The end-to-end tests' cluster: the chart installed once, one relay, one sink, one tenant.

KUBECONFIG comes from the environment (`make e2e` provides it, and the images). A context that is
not on the list is never touched: these tests delete CRDs.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from helm_python import Config

from tests.e2e.kubectl import Kubectl, KubectlFailed, Manifest, eventually
from tests.e2e.mail import Binding, Client, Sink
from tests.e2e.manifests import OURS, RELAYS, SENDERS, namespace, peer_pod, relay, sender

CHART = Path(__file__).resolve().parents[2] / "charts/mailrelay"
#: Contexts that may be used: tests/e2e/cluster's, kind's, and the one that somebody names.
ALLOWED = {"mailrelay", "kind-mailrelay-e2e", os.environ.get("MAILRELAY_E2E_CONTEXT", "")} - {""}

#: Without a cluster there is nothing to collect: `make e2e` brings one.
collect_ignore_glob = [] if os.environ.get("KUBECONFIG") else ["test_*.py"]

RELEASE = "mailrelay"
OPERATOR_NAMESPACE = "mail-system"
RELAY_NAMESPACE = "e2e-mail"
TEAM_NAMESPACE = "e2e-team"
SINK_NAMESPACE = "e2e-sink"
#: Where the client pod finds the Secret of its MailSender.
MOUNTED = "/secret"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Longer than a unit test may take, and a clean failure instead of the end of the whole run."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.timeout(300, method="signal"))


@pytest.fixture(scope="session")
def kubectl() -> Kubectl:
    ours = Kubectl()
    context = ours.run("config", "current-context").strip()
    if context not in ALLOWED:
        pytest.exit(
            f"the context {context!r} is not one of {sorted(ALLOWED)}, and these tests delete CRDs"
            " and namespaces; if you mean it, set MAILRELAY_E2E_CONTEXT",
            returncode=pytest.ExitCode.USAGE_ERROR,
        )
    return ours


class Release:
    """The chart's release in the cluster."""

    def __init__(self, kubectl: Kubectl) -> None:
        self._kubectl = kubectl

    @staticmethod
    def _image(variable: str, default: str) -> dict[str, Any]:
        repository, _, tag = os.environ.get(variable, default).rpartition(":")
        return {"repository": repository, "tag": tag}

    def _values(self, values: dict[str, Any]) -> dict[str, Any]:
        return {
            "image": self._image("MAILRELAY_OPERATOR_IMAGE", "mailrelay-operator:e2e"),
            "gateway": {"image": self._image("MAILRELAY_GATEWAY_IMAGE", "mailrelay-gateway:e2e")},
            **values,
        }

    def install(self, **values: Any) -> None:
        """Install the chart, and wait until the operator runs."""
        self._kubectl.apply(namespace(OPERATOR_NAMESPACE))
        with Config(namespace=OPERATOR_NAMESPACE) as helm:
            helm.install(CHART, RELEASE, self._values(values), wait="watcher", timeout=60)

    def upgrade(self, **values: Any) -> None:
        """Upgrade it to other values, and wait until the operator runs with them."""
        with Config(namespace=OPERATOR_NAMESPACE) as helm:
            helm.upgrade(CHART, RELEASE, self._values(values), wait="watcher", timeout=60)

    def uninstall(self) -> None:
        """Uninstall it; nothing happens where there is none."""
        with Config(namespace=OPERATOR_NAMESPACE) as helm:
            helm.uninstall(RELEASE, ignore_not_found=True, wait="watcher", timeout=60)

    def operator_pod(self) -> Manifest | None:
        """The operator's pod, if one runs that is not on its way out."""
        pods = self._kubectl.items(
            "pods", OPERATOR_NAMESPACE, "app.kubernetes.io/component=operator"
        )
        return next((pod for pod in pods if "deletionTimestamp" not in pod["metadata"]), None)


def remove_everything(kubectl: Kubectl, release: Release) -> None:
    """Whatever an earlier run left, or this one."""
    release.uninstall()
    crds = [SENDERS, "maildomains.mailrelay.dev", RELAYS]
    kubectl.run("delete", "crd", *crds, "--ignore-not-found", "--timeout=60s", deadline=70)
    kubectl.run("delete", "namespace", "--selector", f"{OURS}=true", "--timeout=120s", deadline=130)


@pytest.fixture(scope="session")
def release(kubectl: Kubectl) -> Iterator[Release]:
    """The chart, installed; at the end nothing of it is left (KEEP=1 leaves it to be looked at)."""
    ours = Release(kubectl)
    remove_everything(kubectl, ours)
    ours.install()
    yield ours
    if not os.environ.get("KEEP"):
        remove_everything(kubectl, ours)


@pytest.fixture(scope="session")
def sink(kubectl: Kubectl, release: Release) -> Sink:
    """The smarthost of the relay: Postfix's smtp-sink."""
    kubectl.apply(namespace(SINK_NAMESPACE))
    ours = Sink(kubectl, "sink", SINK_NAMESPACE)
    ours.up()
    return ours


@pytest.fixture(scope="session")
def team(kubectl: Kubectl, release: Release) -> str:
    """A tenant's namespace, admitted by its label."""
    kubectl.apply(namespace(TEAM_NAMESPACE, mail="allowed"))
    return TEAM_NAMESPACE


@pytest.fixture(scope="session")
def mail_relay(kubectl: Kubectl, sink: Sink) -> Manifest:
    """The relay that most tests use, ready."""
    made = relay("relay", RELAY_NAMESPACE, host=sink.host)
    kubectl.apply(namespace(RELAY_NAMESPACE))
    kubectl.apply(made)
    kubectl.wait(RELAYS, "relay", RELAY_NAMESPACE, "Ready", 120)
    return made


@pytest.fixture(scope="session")
def app(kubectl: Kubectl, mail_relay: Manifest, team: str) -> Binding:
    """The MailSender `app` of the tenant: what its Secret holds."""
    kubectl.apply(sender("app", team, relay=mail_relay))
    return await_binding(kubectl, "app-smtp", team)


@pytest.fixture(scope="session")
def client(kubectl: Kubectl, app: Binding, team: str) -> Client:
    """A pod of the tenant, with the Secret of `app` mounted."""
    kubectl.apply(peer_pod("client", team, ["sleep", "infinity"], secrets={MOUNTED: "app-smtp"}))
    kubectl.wait("pod", "client", team, "Ready", 60)
    return Client(kubectl, "client", team)


def await_binding(kubectl: Kubectl, name: str, namespace: str, *, deadline: float = 60) -> Binding:
    """What the Secret holds that the operator writes for a MailSender, once it is filled: it is
    created empty."""

    def filled() -> Manifest | None:
        found = kubectl.get("secret", name, namespace)
        return found if found is not None and "password" in (found.get("data") or {}) else None

    secret = eventually(filled, deadline=deadline, what=f"Secret {namespace}/{name}")
    assert secret is not None
    return Binding.of(secret)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What the operator and the gateway said lately stands below a failure."""
    report = yield
    if report.failed and os.environ.get("KUBECONFIG"):
        for title, words in {
            "operator": ["-n", OPERATOR_NAMESPACE, "deployment/mailrelay"],
            "gateway": ["-n", RELAY_NAMESPACE, "statefulset/relay"],
        }.items():
            try:
                text = Kubectl().run("logs", "--tail=40", *words)
            except KubectlFailed as failed:
                text = str(failed)
            report.sections.append((f"log of the {title}", text))
    return report
