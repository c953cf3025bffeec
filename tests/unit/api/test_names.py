"""Derived names are valid, distinct and stable: a StatefulSet and people's DNS depend on them."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailrelay_operator.api import names
from mailrelay_operator.api.mailrelay import is_relay_name

relay_names = st.from_regex(names.RELAY_NAME + r"\Z").filter(is_relay_name)


@given(relay_names)
def test_every_derived_name_is_a_label(relay: str) -> None:
    """Whatever a relay may be called, every name made from it is a DNS-1035 label."""
    made = [
        names.stateful_set_name(relay),
        names.service_name(relay),
        names.pods_service_name(relay),
        names.pod_name(relay, 99),
        names.claim_name(relay, 99),
        names.service_account_name(relay),
        names.disruption_budget_name(relay),
        names.network_policy_name(relay),
        names.ca_secret_name(relay),
        names.admin_secret_name(relay),
        *names.config_secret_names(relay).values(),
    ]
    for name in made:
        assert len(name) <= 63
        assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name)


@given(relay_names)
def test_every_label_is_a_valid_value(relay: str) -> None:
    """Whatever a relay may be called, the values of its labels are valid."""
    for value in names.relay_labels(relay).values():
        assert re.fullmatch(r"[a-z0-9A-Z]([-a-z0-9A-Z_.]{0,61}[a-z0-9A-Z])?", value)


@pytest.mark.parametrize("name", ["", "1a", "-a", "a-", "A", "a.b", "a" * 46, "a\n"])
def test_what_a_relay_cannot_be_called(name: str) -> None:
    assert not is_relay_name(name)


def test_the_secrets_of_a_configuration() -> None:
    made = names.config_secret_names("mail")
    assert list(made)[:2] == ["relay", "senders-00"]
    assert made["relay"] == "mail-config"
    assert made["senders-15"] == "mail-senders-15"
    assert len(made) == 17


def test_names_that_may_never_change() -> None:
    assert names.pods_service_name("mail") == "mail-pods"
    assert names.claim_name("mail", 0) == "spool-mail-0"
    assert names.scale_selector("mail") == (
        "app.kubernetes.io/component=gateway,app.kubernetes.io/name=mailrelay,mailrelay.dev/relay=mail"
    )
    assert names.minted_username("team-a", "orders") == "team-a.orders"


def test_the_names_of_a_service() -> None:
    assert names.service_hosts("mail", "ns", "cluster.local") == (
        "mail",
        "mail.ns",
        "mail.ns.cluster.local",
        "mail.ns.svc",
        "mail.ns.svc.cluster.local",
    )
