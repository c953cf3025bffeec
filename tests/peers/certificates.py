"""The one maker of certificates for tests: signed by themselves, by an authority, or by any other
key; and the contexts of servers that show them and of clients that trust them.

What is odd about those that people give us is in odd_certificates.py.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519
from cryptography.x509.oid import NameOID

from mailrelay_gateway.contract.documents import Certificate

P256 = ec.generate_private_key(ec.SECP256R1())


def make(
    key: Any = P256,
    *,
    names: Sequence[str] = ("localhost",),
    extensions: Sequence[x509.ExtensionType] = (),
    issuer: Any = None,
    issuer_name: str = "an issuer",
    starts: dt.timedelta = dt.timedelta(hours=-1),
    ends: dt.timedelta = dt.timedelta(days=30),
    now: dt.datetime | None = None,
) -> tuple[str, str]:
    """A certificate for these names or addresses and its key, PEM. `issuer` is the key of another
    who signs it; otherwise it is its own authority.
    """
    now = now or dt.datetime.now(dt.UTC)
    subject = _name(names[0] if names else "localhost")
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else _name(issuer_name))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + starts)
        .not_valid_after(now + ends)
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
    )
    if names:
        san = x509.SubjectAlternativeName([_alternative(name) for name in names])
        builder = builder.add_extension(san, critical=False)
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    signing = key if issuer is None else issuer
    unhashed = isinstance(signing, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey)
    hashed = None if unhashed else hashes.SHA256()
    return pem_of(builder.sign(signing, hashed)), key_pem_of(key)


def _name(common_name: str) -> x509.Name:
    # RFC 5280: a common name has at most 64 characters.
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[:64])])


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def pem_of(certificate: x509.Certificate) -> str:
    """As PEM."""
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def key_pem_of(key: Any, password: bytes = b"", *, traditional: bool = False) -> str:
    """As PEM, PKCS#8 or the older form of its kind."""
    form = serialization.PrivateFormat
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password:
        encryption = serialization.BestAvailableEncryption(password)
    octets: bytes = key.private_bytes(
        serialization.Encoding.PEM,
        form.TraditionalOpenSSL if traditional else form.PKCS8,
        encryption,
    )
    return octets.decode()


@cache
def certificate(*names: str) -> Certificate:
    """A certificate for these names that is its own authority, so that a client may trust exactly
    it.
    """
    chain, key = make(ec.generate_private_key(ec.SECP256R1()), names=names)
    return Certificate(chain=chain, key=key)


def trusting(*certificates: Certificate) -> ssl.SSLContext:
    """A client's context that trusts these certificates alone, and checks names."""
    context = ssl.create_default_context(cadata="".join(each.chain for each in certificates))
    # Made for a test: signed by itself, and a leaf at the same time.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT if hasattr(ssl, "VERIFY_X509_STRICT") else ~0
    return context


@dataclass(frozen=True)
class Authority:
    """A certification authority: `pem` is its certificate, in `folder` lies what it signed."""

    name: str
    key: ec.EllipticCurvePrivateKey
    pem: str
    folder: Path

    def server_context(
        self, *names: str, expired: bool = False, clients: str | None = None
    ) -> ssl.SSLContext:
        """A server's context with a certificate for these names and addresses. `clients`: the CA
        of those that clients must have.
        """
        day = dt.timedelta(days=1)
        chain, key = make(
            ec.generate_private_key(ec.SECP256R1()),
            names=names,
            issuer=self.key,
            issuer_name=self.name,
            starts=-3 * day,
            ends=-day if expired else day,
        )
        # OpenSSL reads files only.
        path = self.folder / f"{x509.load_pem_x509_certificate(chain.encode()).serial_number}.pem"
        path.write_text(key + chain)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        if clients is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(cadata=clients)
        return context


def make_authority(folder: Path) -> Authority:
    """A fresh authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    pem, _ = make(key, names=("test-ca.example",))
    return Authority("test-ca.example", key, pem, folder)
