"""PURE: certificates: which names a relay's own must carry, when it is due, and whether a given one
carries a name.

Minting itself (keys, serial numbers, signatures) is engine/minting.py's.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from mailrelay_gateway.config import Certificate

#: A CA outlives the relay; Kubernetes' own (kubeadm) has ten years too.
AUTHORITY_LIFE = timedelta(days=3650)
#: As Let's Encrypt's: short enough that renewal is a habit.
LEAF_LIFE = timedelta(days=90)
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
    chain = parse_chain(leaf.chain)
    issuers = parse_chain(authority)
    if not chain or not issuers:
        return "The certificate cannot be read."
    certificate = chain[0]
    try:
        certificate.verify_directly_issued_by(issuers[0])
    except (ValueError, TypeError, InvalidSignature):
        return "The certificate is not of the relay's CA."
    if key_problem(leaf) is not None:
        return "The certificate and its key do not belong together."
    carried_dns, carried_addresses = _names_in(certificate)
    lacking = (set(dns_names) - carried_dns) | (set(addresses) - carried_addresses)
    if lacking:
        return f"The certificate lacks {', '.join(sorted(lacking))}."
    life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    if now >= certificate.not_valid_before_utc + life * 2 / 3:
        return "Two thirds of the certificate's life are over."
    return None


def carries(chain: str, host: str) -> bool:
    """Whether the first certificate of this chain (PEM) is for the host, wildcards as in RFC 6125
    section 6.4.3."""
    certificates = parse_chain(chain)
    if not certificates:
        return False
    dns, addresses = _names_in(certificates[0])
    try:
        return str(ipaddress.ip_address(host)) in addresses
    except ValueError:
        pass
    host = host.lower().rstrip(".")
    _, dot, parent = host.partition(".")
    return host in dns or (bool(dot) and f"*.{parent}" in dns)


def chain_problem(certificate: Certificate, *, now: datetime) -> str | None:
    """What is wrong with a certificate that we were given, as the end of a sentence; None:
    nothing."""
    chain = parse_chain(certificate.chain)
    if not chain:
        return "holds no PEM certificate in tls.crt"
    problem = key_problem(certificate)
    if problem is not None:
        return problem
    if now > chain[0].not_valid_after_utc:
        return f"expired on {chain[0].not_valid_after_utc:%Y-%m-%d}; renew it"
    return None


def key_problem(certificate: Certificate) -> str | None:
    """Why the key is not the first certificate's, as the end of a sentence; None: it is."""
    chain = parse_chain(certificate.chain)
    try:
        key = load_pem_private_key(certificate.key.encode(), password=None)
    except (ValueError, TypeError):
        return "holds no readable, unencrypted private key in tls.key"
    if not chain or chain[0].public_key() != key.public_key():
        return "has a key in tls.key that is not that of the first certificate in tls.crt"
    return None


def parse_chain(pem: str) -> list[x509.Certificate]:
    """The certificates of a PEM text; none when there are none or one is damaged."""
    try:
        return x509.load_pem_x509_certificates(pem.encode())
    except ValueError:
        return []


def _names_in(certificate: x509.Certificate) -> tuple[set[str], set[str]]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set(), set()
    dns = {name.lower() for name in names.get_values_for_type(x509.DNSName)}
    return dns, {str(address) for address in names.get_values_for_type(x509.IPAddress)}
