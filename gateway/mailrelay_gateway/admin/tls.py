"""TLS of the admin port: the relay's certificate as soon as a configuration has one, and until then
a self-signed placeholder, so that the kubelet can probe a gateway that waits for its configuration.

The certificate is selected at each handshake: a renewed one needs no new socket.
"""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from mailrelay_gateway.contract.documents import Certificate

#: Longer than any process runs; clients do not verify it.
PLACEHOLDER_LIFE = timedelta(days=3650)
PLACEHOLDER_NAME = "mailrelay-gateway.invalid"  # RFC 6761 section 6.4


class AdminTls:
    """The context of the admin port's socket, and its current certificate."""

    def __init__(self, first: ssl.SSLContext) -> None:
        """Use this context's certificate until `show`."""
        self.context = first
        self._shown = first
        first.sni_callback = self._choose

    def show(self, context: ssl.SSLContext) -> None:
        """Use this one's certificate from the next handshake on."""
        self._shown = context

    def _choose(
        self, tls: ssl.SSLObject | ssl.SSLSocket, _name: str | None, _: ssl.SSLContext
    ) -> None:
        # OpenSSL calls this with and without SNI.
        if self._shown is not self.context:
            tls.context = self._shown


def placeholder() -> Certificate:
    """A self-signed certificate for a reserved name."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, PLACEHOLDER_NAME)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + PLACEHOLDER_LIFE)
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName(PLACEHOLDER_NAME)]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return Certificate(
        chain=made.public_bytes(serialization.Encoding.PEM).decode(), key=private.decode()
    )
