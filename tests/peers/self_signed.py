"""Certificates signed by themselves, for servers that a test runs, and clients that trust them."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from mailrelay_gateway.contract.documents import Certificate


@cache
def certificate(*names: str) -> Certificate:
    """A certificate for these names that is its own CA, so that a client may trust exactly it."""
    key = ec.generate_private_key(ec.SECP256R1())
    # RFC 5280: a common name has at most 64 characters.
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
    now = datetime.now(UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=30))
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName(each) for each in names]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return Certificate(
        chain=built.public_bytes(serialization.Encoding.PEM).decode(),
        key=key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ).decode(),
    )


def trusting(*certificates: Certificate) -> ssl.SSLContext:
    """A client's context that trusts these certificates alone, and checks names."""
    context = ssl.create_default_context(cadata="".join(each.chain for each in certificates))
    # Made for a test: signed by itself, and a leaf at the same time.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT if hasattr(ssl, "VERIFY_X509_STRICT") else ~0
    return context
