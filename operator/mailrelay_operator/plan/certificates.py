"""Certificates: which names a relay's own must carry, when it is due, and whether a given one
carries a name. Pure.

Minting itself (keys, serial numbers, signatures) is engine/minting.py's.
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
    trust_problem,
)
from mailrelay_operator.api.names import ADMIN_SERVER_NAME

#: A CA outlives the relay; Kubernetes' own (kubeadm) has ten years too.
AUTHORITY_LIFE = timedelta(days=3650)
#: As Let's Encrypt's: short enough that renewal is a habit.
LEAF_LIFE = timedelta(days=90)
#: A CA is replaced this long before it expires: a leaf never outlives it, so that near its end
#: leaves would have to be issued ever more often.
AUTHORITY_RENEWED = timedelta(days=1)
#: Clocks of clients may be behind ours by this much.
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
    """The DNS names and the IP addresses that the relay's own certificate carries, each once."""
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
    """Why the relay's own certificate has to be issued (again), as a sentence; None while it
    serves.

    `authority` is the CA's certificate in PEM.
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
        return "The certificate is not of the relay's CA."
    try:
        pair = _read(leaf)
    except PemProblem:
        return "The certificate and its key do not belong together."
    certificate = pair.certificate
    lacking = (set(dns_names) - set(pair.dns_names)) | (set(addresses) - set(pair.addresses))
    if lacking:
        return f"The certificate lacks {', '.join(sorted(lacking))}."
    life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    if now >= certificate.not_valid_before_utc + life * 2 / 3:
        return "Two thirds of the certificate's life are over."
    return None


def serves(authority: str, *, now: datetime) -> bool:
    """Whether certificates may still be issued by this CA (PEM). One that is valid only later was
    minted by a clock that was ahead, and no client takes it either."""
    certificates = parse_chain(authority)
    if not certificates:
        return False
    ends = certificates[0].not_valid_after_utc - AUTHORITY_RENEWED
    return certificates[0].not_valid_before_utc <= now < ends


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
    """A certificate that we were given, written anew; PemProblem, the end of a sentence, for one
    that the gateway or its clients would refuse."""
    pair = _read(certificate)
    if problem := serving_problem(pair, now=now):
        raise PemProblem(problem)
    return Certificate(chain=pair.pem, key=pair.key_pem)


def given_bundle(pem: str, *, field: str, now: datetime) -> str:
    """The CAs that we were given to trust, written anew; PemProblem for what verifies nothing."""
    bundle = read_bundle(pem, field=field)
    if problem := trust_problem(bundle, now=now):
        raise PemProblem(problem)
    return bundle.pem


def parse_chain(pem: str) -> tuple[x509.Certificate, ...]:
    """The certificates of a PEM text; none when there are none or one is damaged."""
    try:
        return read_bundle(pem, field="tls.crt").certificates
    except PemProblem:
        return ()


def _read(certificate: Certificate) -> Pair:
    return read_pair(certificate.chain, certificate.key, chain_field="tls.crt", key_field="tls.key")
