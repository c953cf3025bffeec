"""From a MailRelay's spec to the gateway's documents, and back."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from mailrelay_gateway.contract import documents, files
from mailrelay_gateway.contract.documents import Certificate, RelayDocument
from mailrelay_gateway.contract.files import RELAY_FILE
from mailrelay_operator.engine.minting import mint_authority, mint_leaf
from mailrelay_operator.plan.actions import Create
from mailrelay_operator.plan.certificates import LEAF_LIFE, carries, why_leaf_is_due
from mailrelay_operator.plan.facts import LeafWanted, Place
from mailrelay_operator.plan.gateway_config import is_placeholder, read_back, token_hash
from tests.models import made
from tests.peers.certificates import P256, key_pem_of, make
from tests.peers.odd_certificates import (
    MALFORMED_SAN,
    as_pkcs12_tools_write,
    client_only,
    indented,
    joined,
)
from tests.unit.plan.build import (
    NOW,
    STANDALONE,
    applied,
    brought,
    facts,
    plan,
    relay,
    secret,
    sender,
    statuses,
)

AUTHORITY = mint_authority("somebody", now=NOW)
GIVEN = mint_leaf(LeafWanted(dns_names=("smtp.example.com",), addresses=()), AUTHORITY, now=NOW)
TLS = secret("cert", type_="kubernetes.io/tls", **{"tls.crt": GIVEN.chain, "tls.key": GIVEN.key})


#: What the gateway shows to a smarthost: nobody looks for a host's name in it.
SHOWN = Certificate(**dict(zip(("chain", "key"), make(names=(), now=NOW), strict=True)))


def shown(certificate: Certificate) -> dict[str, Any]:
    """The Secret with it."""
    data = {"tls.crt": certificate.chain, "tls.key": certificate.key}
    return secret("shown", type_="kubernetes.io/tls", **data)


def document(*objects: dict[str, Any], place: Place | None = None, **spec: Any) -> RelayDocument:
    made = plan(facts(relay(**spec), objects=objects, place=place or Place()))
    assert made.problems == ()
    return files.load(made.relay.files).relay


def test_every_field_that_acts_reaches_the_gateway() -> None:
    login = brought("login", username="u", password="p")
    trust = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "trust", "namespace": "mail"},
        "data": {"ca.crt": AUTHORITY.certificate},
    }
    found = document(
        login,
        trust,
        TLS,
        shown(SHOWN),
        hostname="relay.example.com",
        suspend=True,
        listeners=[
            {
                "name": "given",
                "port": 465,
                "tls": {"mode": "Implicit", "certificateRefs": [{"name": "cert"}]},
            },
            {
                "name": "open",
                "port": 2525,
                "tls": {"mode": "None"},
                "authentication": {"mode": "None", "clientCIDRs": ["10.1.0.0/16"]},
            },
        ],
        service={"hostname": "smtp.example.com"},
        upstreams=[
            {
                "name": "out",
                "smarthost": {
                    "hosts": [{"host": "smtp.example.net", "port": 2587}],
                    "tls": {
                        "serverName": "mx.example.net",
                        "caRef": {"kind": "ConfigMap", "name": "trust"},
                        "certificateRef": {"name": "shown"},
                    },
                    "auth": {"basic": {"secretRef": {"name": "login"}}},
                },
                "connections": 3,
                "messagesPerConnection": 7,
                "maxSize": "1Mi",
                "maxRecipients": 9,
                "replies": [
                    {"name": "a", "code": 450, "text": "no", "outcome": "Held", "after": "2m"},
                    {
                        "name": "b",
                        "stage": "EndOfMessage",
                        "enhanced": "5.7.1",
                        "outcome": "Failed",
                    },
                ],
            },
            {"name": "box", "sandbox": {"keep": 5}},
        ],
        limits={
            "message": {
                "maxSize": "1Mi",
                "maxRecipients": 9,
                "onTooManyRecipients": "DeferRecipients",
            },
            "rates": [
                {
                    "name": "team",
                    "scope": "Namespace",
                    "recipients": 600,
                    "per": "1m",
                    "onLimit": "Reject",
                },
                {"name": "all", "scope": "Relay", "messages": 1, "per": "1s", "burst": 4},
            ],
        },
        retry={"giveUpAfter": "48h", "maxInterval": "30m", "warnAfter": "2h"},
        rewrite={"nullSender": "bounces@example.com"},
    )
    assert found.suspend
    given, opened = found.listeners
    assert (given.port, given.tls.mode, given.tls.certificates) == (
        10465,
        documents.TlsMode.IMPLICIT,
        (GIVEN,),
    )
    assert (opened.port, opened.authentication.client_cidrs) == (2525, ("10.1.0.0/16",))
    out, box = found.upstreams
    assert out.settings == documents.Smarthost(
        hosts=(documents.HostPort(host="smtp.example.net", port=2587),),
        tls=documents.UpstreamTls(
            mode=documents.TlsMode.START_TLS,
            ca=AUTHORITY.certificate,
            server_name="mx.example.net",
            certificate=SHOWN,
        ),
        auth=documents.Login(username="u", password="p"),
    )
    assert (out.connections, out.messages_per_connection) == (3, 7)
    assert (out.max_size, out.max_recipients) == (1024 * 1024, 9)
    assert out.replies == (
        made.reply_rule(name="a", code=450, text="no", outcome="Held", after=120.0),
        made.reply_rule(name="b", stage="end-of-message", enhanced="5.7.1", outcome="Failed"),
    )
    assert box.settings == documents.Sandbox(keep=5)
    assert (found.limits.max_size, found.limits.max_recipients) == (1 << 20, 9)
    assert found.limits.on_too_many_recipients == "DeferRecipients"
    first, second = found.limits.rates
    assert (first.scope, first.unit, first.count, first.per, first.burst, first.on_limit) == (
        documents.Scope.NAMESPACE,
        documents.RateUnit.RECIPIENTS,
        600,
        60.0,
        10,
        documents.OnLimit.REJECT,
    )
    assert second.burst == 4
    assert (found.retry.give_up_after, found.retry.max_interval) == (172_800.0, 1800.0)
    assert (found.retry.warn_after, found.null_sender) == (7200.0, "bounces@example.com")


def test_standalone_binds_the_ports_of_the_file_and_knows_the_loopback_names() -> None:
    found = document(place=STANDALONE)
    (listener,) = found.listeners
    assert listener.port == 587
    made = plan(facts(relay(), sender(), place=STANDALONE))
    binding = next(one for one in reversed(applied(made)) if one["metadata"]["name"] == "app-smtp")
    assert {"host", "password", "uri", "ca.crt"} <= set(binding["data"])


def test_what_standalone_saved_it_finds_again_and_mints_nothing() -> None:
    first = plan(facts(relay(), sender(), place=STANDALONE))
    saved = applied(first, "Secret")
    again = plan(facts(relay(), sender(), objects=saved, place=STANDALONE))
    assert not [one for one in again.actions if isinstance(one, Create)]
    assert again.relay.digest == first.relay.digest


def test_the_admin_token_reaches_the_gateway_as_a_hash_only() -> None:
    admin = secret("out-admin", type_="mailrelay.dev/admin", token="secret-token")
    admin["metadata"]["labels"] = {
        "app.kubernetes.io/managed-by": "mailrelay",
        "mailrelay.dev/relay": "out",
    }
    found = document(admin)
    assert found.admin_token_sha256 == token_hash("secret-token")


def test_a_private_ca_never_leaves_its_secret() -> None:
    made = plan(facts(relay()))
    (authority,) = (one for one in applied(made) if one["metadata"]["name"] == "out-ca")
    assert "ca.key" in authority["data"]
    key = authority["data"]["ca.key"]
    assert all(key not in str(one) for one in applied(made) if one is not authority)


@pytest.mark.parametrize(
    ("objects", "words"),
    [
        ([], "SecretNotFound: Secret mail/cert of listener submission does not exist; create it."),
        ([secret("cert")], "has the type Opaque; a certificate needs kubernetes.io/tls."),
        (
            [
                secret(
                    "cert", type_="kubernetes.io/tls", **{"tls.crt": "junk", "tls.key": GIVEN.key}
                )
            ],
            "has no PEM certificate in tls.crt.",
        ),
        (
            [
                secret(
                    "cert",
                    type_="kubernetes.io/tls",
                    **{"tls.crt": GIVEN.chain, "tls.key": AUTHORITY.key},
                )
            ],
            "has a key in tls.key that does not match the first certificate in tls.crt.",
        ),
    ],
)
def test_a_given_certificate_that_cannot_be_used_is_named(
    objects: list[dict[str, Any]], words: str
) -> None:
    listeners = [
        {"name": "submission", "port": 587, "tls": {"certificateRefs": [{"name": "cert"}]}}
    ]
    made = plan(facts(relay(listeners=listeners), objects=objects))
    assert made.relay.files == {}
    assert words in str(made.problems[0])


@pytest.mark.parametrize(
    ("objects", "words"),
    [
        ([], "SecretNotFound: Secret mail/shown of upstream out does not exist; create it."),
        ([secret("shown")], "has the type Opaque; a certificate needs kubernetes.io/tls."),
        ([shown(GIVEN)], "that is not valid for clients (extendedKeyUsage); issue one that is."),
    ],
)
def test_a_client_certificate_that_cannot_be_used_is_named(
    objects: list[dict[str, Any]], words: str
) -> None:
    smarthost = {
        "hosts": [{"host": "smtp.example.net"}],
        "tls": {"certificateRef": {"name": "shown"}},
    }
    made = plan(facts(relay(upstreams=[{"name": "out", "smarthost": smarthost}]), objects=objects))
    assert made.relay.files == {}
    assert words in str(made.problems[0])
    path = "spec.upstreams[out].smarthost.tls.certificateRef"
    assert [problem.trouble.path for problem in made.problems] == [path]


def test_an_expired_certificate_says_when_it_expired() -> None:
    listeners = [
        {"name": "submission", "port": 587, "tls": {"certificateRefs": [{"name": "cert"}]}}
    ]
    later = NOW + LEAF_LIFE + timedelta(days=1)
    (problem,) = map(
        str, plan(facts(relay(listeners=listeners), objects=[TLS], now=later)).problems
    )
    assert "CertificateInvalid" in problem
    assert "expired on 2026-04-01; renew it." in problem


def test_a_given_certificate_without_the_hosts_name_gives_nobody_a_secret() -> None:
    listeners = [
        {"name": "submission", "port": 587, "tls": {"certificateRefs": [{"name": "cert"}]}}
    ]
    made = plan(facts(relay(listeners=listeners), sender(), objects=[TLS]))
    (status,) = statuses(made, "MailSender")
    (resolved,) = (one for one in status["status"]["conditions"] if one["type"] == "ResolvedRefs")
    assert resolved["reason"] == "CertificateNameMismatch"
    assert "out.mail.svc" in resolved["message"]


def test_damaged_files_count_as_not_there() -> None:
    made = plan(facts(relay(), sender(), place=STANDALONE))
    (share,) = (name for name in made.relay.files if name != RELAY_FILE)
    found = read_back({**made.relay.files, share: b"damaged"})
    assert found is not None
    assert (found.relay.hostname, found.senders) == ("relay.example.com", ())
    found = read_back({**made.relay.files, RELAY_FILE: b"damaged"})
    assert found is not None
    assert is_placeholder(found.relay)
    assert [one.username for one in found.senders] == ["mail.app"]


def test_a_relay_that_was_read_back_is_the_one_that_was_written() -> None:
    made = plan(facts(relay(), sender(), place=STANDALONE))
    found = read_back(made.relay.files)
    assert found == files.load(made.relay.files)
    assert found is not None
    assert found.digest == made.relay.digest
    assert isinstance(found.relay.listeners[0].tls.certificates[0], Certificate)


def trust(text: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "trust", "namespace": "mail"},
        "data": {"ca.crt": text},
    }


UPSTREAMS = [
    {
        "name": "out",
        "smarthost": {
            "hosts": [{"host": "smtp.example.net", "port": 587}],
            "tls": {"caRef": {"kind": "ConfigMap", "name": "trust"}},
        },
    }
]
SUBMISSION = [{"name": "submission", "port": 587, "tls": {"certificateRefs": [{"name": "cert"}]}}]


def test_authorities_and_certificates_reach_the_gateway_written_anew() -> None:
    ca = AUTHORITY.certificate
    found = document(
        trust(f"\ufeff# Főtanúsítvány\n{as_pkcs12_tools_write(indented(ca))}"),
        secret(
            "cert",
            type_="kubernetes.io/tls",
            **{
                "tls.crt": f"# ours\n{joined(GIVEN.chain, ca)}",
                "tls.key": as_pkcs12_tools_write(GIVEN.key),
            },
        ),
        upstreams=UPSTREAMS,
        listeners=SUBMISSION,
    )
    assert isinstance(found.upstreams[0].settings, documents.Smarthost)
    assert found.upstreams[0].settings.tls.ca == ca
    assert found.listeners[0].tls.certificates == (
        Certificate(chain=GIVEN.chain + ca, key=GIVEN.key),
    )


@pytest.mark.parametrize(
    ("chain", "words"),
    [
        (make(names=(), extensions=[MALFORMED_SAN], now=NOW)[0], "whose extensions are malformed"),
        (make(names=(), now=NOW)[0], "without a host name (subjectAltName)"),
        (make(starts=timedelta(days=1), now=NOW)[0], "is valid only from "),
        (make(extensions=[client_only()], now=NOW)[0], "has a certificate that is"),
    ],
)
def test_a_certificate_that_clients_would_refuse_is_refused_here(chain: str, words: str) -> None:
    given = secret(
        "cert", type_="kubernetes.io/tls", **{"tls.crt": chain, "tls.key": key_pem_of(P256)}
    )
    (problem,) = map(
        str, plan(facts(relay(listeners=SUBMISSION), sender(), objects=[given])).problems[:1]
    )
    assert "CertificateInvalid" in problem
    assert "Secret mail/cert of listener submission" in problem
    assert words in problem


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("junk", "has no PEM certificate in ca.crt"),
        (make(ends=timedelta(hours=-0.5), now=NOW)[0], "has only expired certificates, the"),
    ],
)
def test_authorities_that_verify_nothing_are_refused_here(text: str, words: str) -> None:
    made = plan(facts(relay(upstreams=UPSTREAMS), objects=[trust(text)]))
    (problem,) = map(str, made.problems[:1])
    assert "CertificateInvalid: ConfigMap mail/trust of upstream out" in problem
    assert words in problem


def test_a_malformed_certificate_of_our_own_is_issued_again() -> None:
    chain, key = make(names=(), extensions=[MALFORMED_SAN], now=NOW)
    due = why_leaf_is_due(
        Certificate(chain=chain, key=key), authority=chain, dns_names=(), addresses=(), now=NOW
    )
    assert due is not None
    assert not carries(chain, "localhost")


def test_a_preset_reaches_the_gateway_where_the_spec_says_nothing() -> None:
    login = brought("login", username="u", password="p")
    auth = {"basic": {"secretRef": {"name": "login"}}}
    found = document(
        login,
        replicas=2,
        upstreams=[
            {"name": "mail", "smarthost": {"provider": "Office365", "auth": auth}},
            {
                "name": "grid",
                "smarthost": {"provider": "SendGrid", "auth": auth},
                "replies": [{"name": "own", "code": 550, "outcome": "Held"}],
            },
            {
                "name": "cloud",
                "smarthost": {"provider": "Cloudflare"},
                "maxSize": "25Mi",
                "pace": [{"name": "own", "recipients": 14, "per": "1s"}],
            },
            {
                "name": "mark",
                "smarthost": {"provider": "Postmark"},
                "attribution": [
                    {"header": "X-PM-Message-Stream", "from": "Template", "template": "out"},
                    {"header": "X-Tenant", "from": "Namespace"},
                ],
                "passHeaders": ["X-PM-Tag"],
            },
        ],
    )
    mail, grid, cloud, mark = found.upstreams
    assert isinstance(mail.settings, documents.Smarthost)
    assert mail.settings.hosts == (documents.HostPort(host="smtp.office365.com", port=587),)
    assert mail.settings.tls.mode is documents.TlsMode.START_TLS
    assert mail.connections == 1  # of two, shared by two replicas
    minute, day = mail.pace
    assert minute == made.pace(name="preset-0", unit="messages", count=30, per=60.0)
    assert day == made.pace(name="preset-1", count=10_000, per=86_400.0)
    assert grid.pace == ()
    assert cloud.pace == (made.pace(name="own", count=14),)
    assert grid.messages_per_connection == 5000
    assert grid.max_size == 31_457_280
    own, shipped = grid.replies
    assert (own.name, own.reason) == ("own", "")
    assert (shipped.text, shipped.reason) == ("verified sender identity", "SenderNotVerified")
    assert isinstance(cloud.settings, documents.Smarthost)
    assert cloud.settings.tls.mode is documents.TlsMode.IMPLICIT
    assert (cloud.max_size, cloud.max_recipients) == (25 * 1024 * 1024, 50)
    assert mark.attribution == (
        documents.Attribution(header="X-PM-Message-Stream", template="out"),
        documents.Attribution(header="X-Tenant", template="{namespace}"),
    )
    assert (mark.control_headers, mark.pass_headers) == (("X-PM-",), ("X-PM-Tag",))
