"""The examples are valid, and say which of their fields do not act yet."""

from pathlib import Path

import pytest
import yaml

from mailrelay_operator.api.metadata import API_VERSION
from mailrelay_operator.api.parsing import Resource, parse
from mailrelay_operator.api.unsupported import unsupported_fields

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"

# As fields begin to act, they go from here.
UNSUPPORTED = {
    "1-sandbox.yaml": set(),
    "2-ses.yaml": {
        "spec.serviceAccountTokens",
        "spec.upstreams[ses].smarthost.provider",
        "spec.upstreams[ses].pace",
        "spec.credentials.rotateEvery",
        "spec.serviceAccounts",
    },
    "3-failover.yaml": {
        "spec.upstreams[second].replies",
        "spec.upstreams[marketing].smarthost.provider",
        "spec.routes",
    },
    "4-direct.yaml": {"spec.upstreams[mx].direct", "kind: MailDomain"},
    "5-multi-tenant.yaml": {
        "spec.serviceAccountTokens",
        "spec.limits.rates[namespace-hour].per",
        "spec.limits.rates[sender-day].per",
        "spec.limits.overrides",
        "spec.queue.maxMessages",
        "spec.credentials.rotateEvery",
        "spec.limits",
        "spec.serviceAccounts",
    },
    "6-staging.yaml": {"spec.recipients", "spec.rewrite"},
    "7-office365.yaml": {
        "spec.upstreams[office365].smarthost.provider",
        "spec.upstreams[office365].smarthost.auth.oauth2",
        "spec.upstreams[office365].pace",
        "spec.rewrite",
    },
}


def resources(name: str) -> list[Resource]:
    documents = yaml.safe_load_all((EXAMPLES / name).read_text())
    return [parse(document) for document in documents if document["apiVersion"] == API_VERSION]


def test_there_are_seven() -> None:
    assert sorted(path.name for path in EXAMPLES.glob("*.yaml")) == sorted(UNSUPPORTED)


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_an_example_is_valid_and_names_what_does_not_act(name: str) -> None:
    named = {field for resource in resources(name) for field in unsupported_fields(resource)}
    assert named == UNSUPPORTED[name]
