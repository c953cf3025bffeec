"""Certificates: the names that a relay's own must have, when it is due for renewal, and whether a
provided one is valid for a name. Pure.

engine/minting.py issues them (keys, serial numbers, signatures).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from mailrelay_gateway.contract.documents import Certificate
from mailrelay_gateway.contract.pem import (
    Pair,
    PemProblem,
    names_of,
    read_bundle,
    read_pair,
    serving_problem,
    showing_problem,
    trust_problem,
)
from mailrelay_operator.api.names import ADMIN_SERVER_NAME

#: Ten years, like the CA of kubeadm: longer than a relay is expected to exist.
AUTHORITY_LIFE = timedelta(days=3650)
#: As with Let's Encrypt: short enough that renewal is routine.
LEAF_LIFE = timedelta(days=90)
#: Tolerated clock skew of clients.
BACKDATED = timedelta(hours=1)


def names_of_relay(
    *,
    namespace: str,
    name: str,
    hostname: str | None,
    service_hostname: str | None,
    cluster_domain: str,
    standalone: bool,
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The DNS names and IP addresses of the relay's own certificate, without duplicates."""
    dns = [
        *(one.lower() for one in (hostname, service_hostname) if one),
        name,
        f"{name}.{namespace}",
        f"{name}.{namespace}.svc",
        f"{name}.{namespace}.svc.{cluster_domain}",
    ]
    addresses: list[str] = []
    if not standalone:
        dns.append(ADMIN_SERVER_NAME)
    if standalone:
        dns.append("localhost")
        addresses += ["127.0.0.1", "::1"]
    return tuple(dict.fromkeys(dns)), tuple(addresses)


def why_leaf_is_due(
    leaf: Certificate | None,
    *,
    authority: str,
    dns_names: Sequence[str],
    addresses: Sequence[str],
    now: datetime,
) -> str | None:
    """Why the relay's own certificate has to be issued (again), as a sentence; None while it is
    usable.

    `authority` is the PEM of the CAs to trust, the one that issues first.
    """
    if leaf is None:
        return "There is no certificate yet."
    issuers = parse_chain(authority)
    chain = parse_chain(leaf.chain)
    if not chain or not issuers:
        return "The certificate cannot be read."
    try:
        chain[0].verify_directly_issued_by(issuers[0])
    except (ValueError, TypeError, InvalidSignature):
        return "The certificate was not issued by the relay's CA."
    try:
        pair = _read(leaf)
    except PemProblem:
        return "The certificate and its key do not match."
    certificate = pair.certificate
    lacking = (set(dns_names) - set(pair.dns_names)) | (set(addresses) - set(pair.addresses))
    if lacking:
        return f"The certificate lacks {', '.join(sorted(lacking))}."
    life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    if certificate.not_valid_after_utc >= issuers[0].not_valid_after_utc:
        return None  # another one would not be valid for longer
    if now >= certificate.not_valid_before_utc + life * 2 / 3:
        return "Two thirds of the certificate's lifetime are over."
    return None


def carries(chain: str, host: str) -> bool:
    """Whether the first certificate of this chain (PEM) is for the host, wildcards as in RFC 6125
    section 6.4.3."""
    certificates = parse_chain(chain)
    if not certificates:
        return False
    try:
        dns, addresses = names_of(certificates[0], field="tls.crt")
    except PemProblem:
        return False
    try:
        return str(ipaddress.ip_address(host)) in addresses
    except ValueError:
        pass
    host = host.lower().rstrip(".")
    _, dot, parent = host.partition(".")
    return host in dns or (bool(dot) and f"*.{parent}" in dns)


def given_certificate(certificate: Certificate, *, now: datetime) -> Certificate:
    """A provided certificate, re-encoded; raises PemProblem, whose text ends a sentence, for one
    that the gateway or its clients would refuse."""
    pair = _read(certificate)
    if problem := serving_problem(pair, now=now):
        raise PemProblem(problem)
    return Certificate(chain=pair.pem, key=pair.key_pem)


def given_client_certificate(certificate: Certificate, *, now: datetime) -> Certificate:
    """The same for a certificate that the gateway shows to a server."""
    pair = _read(certificate)
    if problem := showing_problem(pair, now=now):
        raise PemProblem(problem)
    return Certificate(chain=pair.pem, key=pair.key_pem)


def given_bundle(pem: str, *, field: str, now: datetime) -> str:
    """The provided CAs to trust, re-encoded; raises PemProblem if they cannot verify anything."""
    bundle = read_bundle(pem, field=field)
    if problem := trust_problem(bundle, now=now):
        raise PemProblem(problem)
    return bundle.pem


def parse_chain(pem: str) -> tuple[x509.Certificate, ...]:
    """The certificates of a PEM text; empty if there are none or one is damaged."""
    try:
        return read_bundle(pem, field="tls.crt").certificates
    except PemProblem:
        return ()


def _read(certificate: Certificate) -> Pair:
    return read_pair(certificate.chain, certificate.key, chain_field="tls.crt", key_field="tls.key")
