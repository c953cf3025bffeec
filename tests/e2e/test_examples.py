"""What lies in examples/ is ready in a cluster as it stands, in one namespace."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.e2e.conftest import Release, await_binding
from tests.e2e.kubectl import Kubectl
from tests.e2e.manifests import RELAYS, SENDERS, namespace

EXAMPLES = sorted((Path(__file__).resolve().parents[2] / "examples").glob("*.yaml"))
WHERE = "e2e-examples"


@pytest.fixture(scope="module")
def applied(kubectl: Kubectl, release: Release) -> Iterator[str]:
    """The namespace that holds all of them: their pods start side by side."""
    kubectl.apply(namespace(WHERE))
    for path in EXAMPLES:
        # Nobody's real token endpoint is asked, which a gateway would do at once.
        text = path.read_text().replace("login.microsoftonline.com", "login.invalid")
        kubectl.run("apply", "--namespace", WHERE, "-f", "-", stdin=text)
    yield WHERE
    kubectl.run("delete", "namespace", WHERE, "--wait=false")


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_becomes_ready(path: Path, applied: str, kubectl: Kubectl) -> None:
    for one in yaml.safe_load_all(path.read_text()):
        if one["kind"] == "MailRelay":
            kubectl.wait(RELAYS, one["metadata"]["name"], applied, "Ready", 120)
        elif one["kind"] == "MailSender":
            kubectl.wait(SENDERS, one["metadata"]["name"], applied, "Ready", 120)
            binding = await_binding(kubectl, one["spec"]["credentials"]["secretName"], applied)
            assert binding.host.endswith(f".{applied}.svc")
