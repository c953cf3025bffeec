"""A MailDomain says that it does not act yet."""

from __future__ import annotations

from mailrelay_operator.plan.actions import Announce, ApplyStatus
from mailrelay_operator.plan.domain import plan_domain
from tests.unit.plan.build import NOW

DOMAIN = {
    "apiVersion": "mailrelay.dev/v1alpha1",
    "kind": "MailDomain",
    "metadata": {"name": "example", "namespace": "mail", "uid": "1", "generation": 1},
    "spec": {"domain": "example.com", "relayRef": {"name": "out"}},
}


def test_a_domain_is_refused_as_unsupported_and_only_once() -> None:
    first = plan_domain(DOMAIN, now=NOW)
    status, event = first.actions
    assert isinstance(status, ApplyStatus)
    assert isinstance(event, Announce)
    reasons = {one["type"]: one["reason"] for one in status.manifest["status"]["conditions"]}
    assert reasons == {
        "Accepted": "Unsupported",
        "KeysReady": "Pending",
        "DNSVerified": "Pending",
        "Ready": "Unsupported",
    }
    assert event.reason == "Unsupported"
    again = plan_domain(DOMAIN | {"status": status.manifest["status"]}, now=NOW)
    assert again.actions == ()
