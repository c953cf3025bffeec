"""What is minted: certificates that clients verify, passwords, verifiers."""

from __future__ import annotations

import socket
import ssl
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from mailrelay_gateway.contract.documents import Certificate
from mailrelay_operator.engine.minting import (
    mint,
    mint_authority,
    mint_leaf,
    mint_password,
    scrypt_verifier,
)
from mailrelay_operator.plan.certificates import LEAF_LIFE, carries, why_leaf_is_due
from mailrelay_operator.plan.facts import LeafWanted, ScryptWanted, Wanted

NOW = datetime.now(UTC)
NAMES = ("relay.example.com", "out.mail.svc", "localhost")
LEAF = LeafWanted(dns_names=NAMES, addresses=("127.0.0.1", "::1"))
AUTHORITY = mint_authority("mail/out", now=NOW)
CERTIFICATE = mint_leaf(LEAF, AUTHORITY, now=NOW)


@pytest.mark.parametrize("host", ["relay.example.com", "out.mail.svc", "127.0.0.1"])
def test_a_strict_client_verifies_the_leaf_by_the_ca(tmp_path: Path, host: str) -> None:
    (tmp_path / "leaf.pem").write_text(CERTIFICATE.chain + CERTIFICATE.key)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(tmp_path / "leaf.pem")
    client = ssl.create_default_context(cadata=AUTHORITY.certificate)
    client.verify_flags |= ssl.VERIFY_X509_STRICT  # Python's default from 3.13 on
    near, far = socket.socketpair()

    def serve() -> None:
        with near, server.wrap_socket(near, server_side=True) as tls:
            tls.recv(1)

    thread = threading.Thread(target=serve)
    thread.start()
    with client.wrap_socket(far, server_hostname=host) as tls:
        assert tls.getpeercert() is not None
        tls.send(b"x")
    thread.join(10)


def due(
    leaf: Certificate | None = CERTIFICATE,
    *,
    authority: str = AUTHORITY.certificate,
    dns: tuple[str, ...] = NAMES,
    now: datetime = NOW,
) -> str | None:
    return why_leaf_is_due(
        leaf, authority=authority, dns_names=dns, addresses=("127.0.0.1",), now=now
    )


def test_a_leaf_serves_for_two_thirds_of_its_life() -> None:
    assert due() is None
    assert due(now=NOW + LEAF_LIFE * 0.66) is None
    assert due(now=NOW + LEAF_LIFE * 0.67) == "Two thirds of the certificate's lifetime are over."


def test_a_leaf_is_due_when_it_does_not_fit_any_more() -> None:
    other = mint_authority("mail/out", now=NOW)
    swapped = Certificate(chain=CERTIFICATE.chain, key=other.key)
    assert due(None) == "There is no certificate yet."
    assert due(dns=(*NAMES, "new.example.com")) == "The certificate lacks new.example.com."
    assert due(authority=other.certificate) == "The certificate was not issued by the relay's CA."
    assert due(swapped) == "The certificate and its key do not match."
    assert due(Certificate(chain="junk", key="junk")) == "The certificate cannot be read."


def test_a_ca_lives_ten_years_and_signs_leaves_only() -> None:
    ca = x509.load_pem_x509_certificate(AUTHORITY.certificate.encode())
    assert ca.not_valid_after_utc - NOW > timedelta(days=3649)
    constraints = ca.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert (constraints.ca, constraints.path_length) == (True, 0)


def test_a_long_name_makes_a_ca_too() -> None:
    assert "CA of" in str(
        x509.load_pem_x509_certificate(
            mint_authority(f"{'n' * 63}/{'r' * 45}", now=NOW).certificate.encode()
        ).subject
    )


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("smtp.example.com", True),
        ("SMTP.Example.com.", True),
        ("a.b.example.com", False),
        ("example.com", False),
        ("127.0.0.1", False),
    ],
)
def test_a_wildcard_carries_one_label(host: str, *, expected: bool) -> None:
    wanted = LeafWanted(dns_names=("*.example.com",), addresses=())
    wildcard = mint_leaf(wanted, AUTHORITY, now=NOW)
    assert carries(wildcard.chain, host) is expected


def test_passwords_are_long_and_need_no_quoting() -> None:
    passwords = {mint_password() for _ in range(50)}
    assert len(passwords) == 50
    assert all(
        len(one) == 43 and one.replace("-", "").replace("_", "").isalnum() for one in passwords
    )


def test_a_known_verifier_that_fits_is_kept() -> None:
    first = scrypt_verifier(ScryptWanted(password=b"s3cret"))
    assert scrypt_verifier(ScryptWanted(password=b"s3cret", known=(first,))) == first
    assert scrypt_verifier(ScryptWanted(password=b"other", known=(first,))) != first


def test_all_that_is_wanted_is_minted() -> None:
    wanted = Wanted(authority=True, leaf=LEAF, admin_token=True)
    material = mint(wanted, relay="mail/out", now=NOW)
    assert len(material.admin_token) == 43
    assert material.authority is not None
    assert material.leaf is not None
    assert due(material.leaf, authority=material.authority.certificate) is None
