"""Presets: every provider has one, and what the spec says wins, field by field."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from mailrelay_gateway.reasons import Reason
from mailrelay_operator.api.expanding import Expanded, expand
from mailrelay_operator.api.mailrelay import MailRelay
from mailrelay_operator.api.parsing import parse
from mailrelay_operator.api.presets import PRESETS, Provider
from mailrelay_operator.api.reference import providers_page
from mailrelay_operator.api.replies import ReplyRule
from mailrelay_operator.api.smarthosts import HostPort
from mailrelay_operator.api.upstreams import Upstream
from mailrelay_operator.cli.presets import preset_lines, thin_paces
from tests.unit.api.documents import HOSTS, Document, sending_by


def model(document: Document) -> MailRelay:
    found = parse(document)
    assert isinstance(found, MailRelay)
    return found


def upstream(**fields: Any) -> Upstream:
    return model(sending_by(**fields)).spec.upstreams[0]


def expanded(replicas: int = 1, **fields: Any) -> Expanded:
    return expand(upstream(**fields), replicas=replicas)


def provided(name: str, **fields: Any) -> dict[str, Any]:
    return {"smarthost": {"provider": name, "hosts": HOSTS} | fields}


def test_every_provider_has_a_preset_and_a_row_in_the_reference() -> None:
    assert tuple(PRESETS) == get_args(Provider)
    page = providers_page()
    assert all(f"| `{name}` |" in page for name in PRESETS)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_complete_enough_to_send_with(name: str) -> None:
    found = expanded(**provided(name))
    assert found.tls_mode in {"StartTLS", "Implicit"}
    assert found.connections >= 1
    assert all(source.startswith("https://") for source in PRESETS[name].sources)
    assert PRESETS[name].sources
    for reply in found.preset_replies:
        assert Reason(reply.reason)  # type: ignore[call-arg]
        ReplyRule.model_validate(
            {"name": reply.name, "text": reply.text, "outcome": reply.outcome, "code": reply.code}
        )
    assert [one.name for one in found.pace] == [f"preset-{n}" for n in range(len(found.pace))]


def test_without_a_provider_there_are_the_usual_defaults() -> None:
    found = expanded(smarthost={"hosts": HOSTS})
    assert (found.tls_mode, found.connections, found.messages_per_connection) == (
        "StartTLS",
        10,
        100,
    )
    assert (found.max_size, found.max_recipients, found.pace) == (None, None, ())
    assert expanded(sandbox={}).hosts == ()


@pytest.mark.parametrize(
    ("name", "fields", "field", "value"),
    [
        ("SendGrid", {"hosts": HOSTS}, "hosts", (HostPort(host="smtp.example.net", port=587),)),
        ("Cloudflare", {"tls": {"mode": "StartTLS"}}, "tls_mode", "StartTLS"),
    ],
)
def test_an_explicit_field_of_the_smarthost_wins(
    name: str, fields: dict[str, Any], field: str, value: object
) -> None:
    with_preset = expanded(smarthost={"provider": name})
    assert getattr(with_preset, field) != value
    found = expanded(smarthost={"provider": name, **fields})
    assert getattr(found, field) == value
    for other in set(Expanded.__slots__) - {field}:
        assert getattr(found, other) == getattr(with_preset, other), other


@pytest.mark.parametrize(
    ("given", "field", "value"),
    [
        ({"connections": 7}, "connections", 7),
        ({"messagesPerConnection": 9}, "messages_per_connection", 9),
        ({"maxSize": "1Mi"}, "max_size", 1024 * 1024),
        ({"maxRecipients": 5}, "max_recipients", 5),
    ],
)
def test_an_explicit_field_of_the_upstream_wins(
    given: dict[str, Any], field: str, value: object
) -> None:
    with_preset = expanded(smarthost={"provider": "SocketLabs"})
    found = expanded(smarthost={"provider": "SocketLabs"}, **given)
    assert getattr(found, field) == value
    for other in set(Expanded.__slots__) - {field}:
        assert getattr(found, other) == getattr(with_preset, other), other


def test_an_explicit_pace_replaces_the_presets() -> None:
    pace = [{"name": "mine", "messages": 1, "per": "1s"}]
    assert [one.name for one in expanded(**provided("Office365"), pace=pace).pace] == ["mine"]
    minute, day = expanded(**provided("Office365")).pace
    assert (minute.messages, minute.per, day.recipients, day.per) == (30, "1m", 10_000, "24h")


@pytest.mark.parametrize(("replicas", "connections"), [(1, 10), (2, 5), (3, 3), (11, 1)])
def test_replicas_share_the_connections_of_an_account(replicas: int, connections: int) -> None:
    assert expanded(replicas, **provided("SocketLabs")).connections == connections
    assert expanded(replicas, **provided("SocketLabs"), connections=7).connections == 7


def test_check_says_what_a_preset_sets_and_not_what_the_spec_says() -> None:
    [line] = preset_lines(model(sending_by(smarthost={"provider": "SocketLabs"})))
    assert line == (
        "MailRelay default/relay, upstream one: provider SocketLabs sets hosts"
        " smtp.socketlabs.com:587; tls.mode StartTLS; maxSize 30,000,000 octets; maxRecipients 500;"
        " connections 10 for each replica; messagesPerConnection 50. Login: server ID and SMTP"
        " password."
    )
    own = {"hosts": HOSTS, "tls": {"mode": "StartTLS"}}
    [line] = preset_lines(
        model(
            sending_by(
                smarthost={"provider": "SocketLabs", **own},
                connections=1,
                messagesPerConnection=1,
                maxSize="1Mi",
                maxRecipients=1,
            )
        )
    )
    assert "sets nothing that the spec does not say itself." in line
    [line] = preset_lines(model(sending_by(**provided("SES"))))
    assert "no null sender" in line
    assert list(preset_lines(model(sending_by(sandbox={})))) == []


def test_check_says_the_pace_that_a_preset_sets() -> None:
    [line] = preset_lines(model(sending_by(**provided("Office365"))))
    assert "pace 30 messages per 1m, 10,000 recipients per 24h" in line
    own = [{"name": "mine", "messages": 1, "per": "1s"}]
    [line] = preset_lines(model(sending_by(**provided("Office365"), pace=own)))
    assert "pace" not in line


def test_check_warns_of_a_pace_that_is_less_than_one_for_each_replica() -> None:
    document = sending_by(
        sandbox={},
        pace=[
            {"name": "thin", "messages": 2, "per": "1s"},
            {"name": "day", "recipients": 3, "per": "24h"},
        ],
    )
    document["spec"]["replicas"] = 3
    [(path, sentence)] = thin_paces(model(document))
    assert path == "spec.upstreams[one].pace[thin]"
    assert sentence == (
        "2 messages per 1s is less than one for each of 3 replicas: it holds on average, but two"
        " replicas may send within one period."
    )


def test_mailjet_and_the_api_of_ses_lose_the_fields_that_steer_them() -> None:
    assert expanded(**provided("Mailjet")).control_headers == ("X-MJ-", "X-Mailjet-")
    ses = {"region": "eu-west-1", "credentials": {"secretRef": {"name": "ses"}}}
    assert expanded(api={"ses": ses}).control_headers == ("X-SES-",)
