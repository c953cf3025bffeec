"""Who may send as what: namespaces, addresses, usernames."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailrelay_operator.plan.senders import pattern_covers
from tests.unit.plan.build import brought, facts, plan, relay, secret, sender, statuses

LABELS = {"from": "Selector", "selector": {"matchLabels": {"mail": "allowed"}}}


@pytest.mark.parametrize(
    ("pattern", "claimed", "covered"),
    [
        ("*", "*@example.com", True),
        ("*", "a@example.com", True),
        ("*@example.com", "*@example.com", True),
        ("*@example.com", "a@example.com", True),
        ("*@Example.COM", "a@example.com", True),
        ("a@example.com", "a@example.com", True),
        ("a@example.com", "A@example.com", False),
        ("a@example.com", "*@example.com", False),
        ("*@example.com", "a@sub.example.com", False),
        ("*@sub.example.com", "a@example.com", False),
        ("*@example.com", "a@badexample.com", False),
    ],
)
def test_a_pattern_covers_what_it_means(pattern: str, claimed: str, *, covered: bool) -> None:
    assert pattern_covers(pattern, claimed) is covered


LOCALS = st.sampled_from(["*", "a", "b"])
DOMAINS = st.sampled_from(["x.example", "y.example", "X.example"])
PATTERNS = st.builds("{}@{}".format, LOCALS, DOMAINS) | st.just("*")


@given(PATTERNS, st.builds("{}@{}".format, LOCALS, DOMAINS), st.sampled_from("ab"))
def test_what_is_covered_lets_no_address_out(pattern: str, claimed: str, local: str) -> None:
    """If a pattern covers a claim, it covers each address that the claim means."""
    claimed_local, _, domain = claimed.partition("@")
    address = f"{local if claimed_local == '*' else claimed_local}@{domain}"
    if pattern_covers(pattern, claimed):
        assert pattern_covers(pattern, address)


def accepted(allowed: list[dict[str, Any]] | None, one: dict[str, Any], **labels: str) -> str:
    spec = {} if allowed is None else {"allowedSenders": allowed}
    namespace = one["metadata"]["namespace"]
    made = plan(facts(relay(**spec), one, namespaces={namespace: labels}))
    (status,) = statuses(made, "MailSender")
    (condition,) = (each for each in status["status"]["conditions"] if each["type"] == "Accepted")
    return str(condition["reason"])


@pytest.mark.parametrize(
    ("allowed", "namespace", "labels", "from_", "reason"),
    [
        (None, "mail", {}, "*@example.com", "Accepted"),
        (None, "team", {}, "*@example.com", "NamespaceNotAllowed"),
        ([], "mail", {}, "*@example.com", "NamespaceNotAllowed"),
        (
            [{"name": "teams", "namespaces": LABELS, "addresses": ["*@example.com"]}],
            "team",
            {"mail": "allowed"},
            "a@example.com",
            "Accepted",
        ),
        (
            [{"name": "teams", "namespaces": LABELS, "addresses": ["*@example.com"]}],
            "team",
            {"mail": "no"},
            "a@example.com",
            "NamespaceNotAllowed",
        ),
        (
            [{"name": "teams", "namespaces": LABELS, "addresses": ["*@example.com"]}],
            "mail",
            {},
            "a@example.com",
            "NamespaceNotAllowed",
        ),
        (
            [{"name": "all", "namespaces": {"from": "All"}, "addresses": ["a@example.com"]}],
            "team",
            {},
            "*@example.com",
            "AddressNotAllowed",
        ),
        (
            [
                {"name": "all", "namespaces": {"from": "All"}, "addresses": ["a@example.com"]},
                {"name": "own", "namespaces": {"from": "Same"}},
            ],
            "mail",
            {},
            "*@other.example",
            "Accepted",
        ),
    ],
)
def test_the_relay_decides_whom_it_admits(
    allowed: list[dict[str, Any]] | None,
    namespace: str,
    labels: dict[str, str],
    from_: str,
    reason: str,
) -> None:
    one = sender(namespace=namespace, as_=from_)
    assert accepted(allowed, one, **labels) == reason


def test_a_refusal_names_the_address_and_what_is_allowed() -> None:
    allowed = [{"name": "all", "namespaces": {"from": "All"}, "addresses": ["*@example.com"]}]
    one = sender(namespace="team", as_="ceo@example.net")
    (problem,) = map(str, plan(facts(relay(allowedSenders=allowed), one)).problems)
    assert problem == (
        "MailSender team/app: AddressNotAllowed: from: ceo@example.net is not among the addresses"
        " that MailRelay mail/out allows namespace team (*@example.com)."
    )


def test_a_login_that_is_marked_by_its_label_is_taken_whatever_its_type() -> None:
    login = secret("legacy", username=" app ", password="s3cret\n")
    login["metadata"]["labels"] = {"mailrelay.dev/credentials": "true"}
    one = sender(credentials={"existingSecretRef": {"name": "legacy"}})
    made = plan(facts(relay(), one, objects=[login]))
    assert made.problems == ()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ({"username": "app"}, "SecretInvalid"),
        ({"username": "app", "password": " \n"}, "SecretInvalid"),
        ({"username": "a" * 256, "password": "p"}, "SecretInvalid"),
        ({"username": "app", "password": "p" * 256}, "SecretInvalid"),
        ({"username": "a\0b", "password": "p"}, "SecretInvalid"),
    ],
)
def test_a_login_that_cannot_be_used_is_said(data: dict[str, str], reason: str) -> None:
    one = sender(credentials={"existingSecretRef": {"name": "legacy"}})
    login = brought("legacy", **data)
    (problem,) = map(str, plan(facts(relay(), one, objects=[login])).problems)
    assert f"MailSender mail/app: {reason}: Secret mail/legacy" in problem


@pytest.mark.parametrize(
    ("username", "reason"),
    [
        ("team-b.billing", "UsernameReserved"),
        ("team-b.billing.old", "UsernameReserved"),
        ("mail.billing", "Accepted"),
        ("billing", "Accepted"),
        ("billing@team-b.example", "Accepted"),
        ("Team.B", "Accepted"),
    ],
)
def test_the_form_of_minted_usernames_is_reserved_to_their_namespace(
    username: str, reason: str
) -> None:
    one = sender(credentials={"existingSecretRef": {"name": "legacy"}})
    login = brought("legacy", username=username, password="p")
    made = plan(facts(relay(), one, objects=[login]))
    (status,) = statuses(made, "MailSender")
    (condition,) = (each for each in status["status"]["conditions"] if each["type"] == "Accepted")
    assert condition["reason"] == reason


def test_a_type_does_not_make_a_login() -> None:
    one = sender(credentials={"existingSecretRef": {"name": "git"}})
    login = secret("git", type_="kubernetes.io/basic-auth", username="robot", password="p")
    (problem,) = map(str, plan(facts(relay(), one, objects=[login])).problems)
    assert "MailSender mail/app: SecretNotPermitted: Secret mail/git" in problem
