"""Which cluster the end-to-end tests run on."""

import pytest

from tests.e2e.provision import ProvisionError, choose

GIVEN = {"KUBECONFIG": "/x", "MAILRELAY_E2E_LOAD": "load {image}"}


@pytest.mark.parametrize(
    ("environment", "docker", "kind", "root", "chosen"),
    [
        (GIVEN, True, True, True, "given"),
        ({}, True, True, True, "kind"),
        ({}, True, False, True, "own"),
        ({}, False, True, True, "own"),
        # A KUBECONFIG alone may be someone's production.
        ({"KUBECONFIG": "/x"}, False, False, True, "own"),
        ({**GIVEN, "MAILRELAY_E2E_CLUSTER": "own"}, True, True, True, "own"),
    ],
)
def test_the_first_cluster_that_there_is(
    environment: dict[str, str], docker: bool, kind: bool, root: bool, chosen: str
) -> None:
    assert choose(environment, docker=docker, kind=kind, root=root) == chosen


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({}, "run as root"),
        ({"MAILRELAY_E2E_CLUSTER": "minikube"}, "none of given, kind, own"),
        ({"MAILRELAY_E2E_CLUSTER": "kind"}, "Docker daemon"),
        ({"MAILRELAY_E2E_CLUSTER": "given", "KUBECONFIG": "/x"}, "MAILRELAY_E2E_LOAD"),
    ],
)
def test_what_is_missing_is_said(environment: dict[str, str], sentence: str) -> None:
    with pytest.raises(ProvisionError, match=sentence):
        choose(environment, docker=False, kind=False, root=False)
