"""Certificates of every odd kind, made for tests: what people give us."""

from __future__ import annotations

import base64
import datetime as dt
from collections.abc import Sequence
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

#: Made once: an RSA key takes a while.
RSA_2048 = rsa.generate_private_key(65537, 2048)
RSA_1024 = rsa.generate_private_key(65537, 1024)
P256 = ec.generate_private_key(ec.SECP256R1())
MALFORMED_SAN = x509.UnrecognizedExtension(
    x509.SubjectAlternativeName.oid, bytes.fromhex("30038209ff")
)
KEYS: dict[str, Any] = {
    "rsa-1024": RSA_1024,
    "rsa-2048": RSA_2048,
    "p-256": P256,
    "p-384": ec.generate_private_key(ec.SECP384R1()),
    "p-521": ec.generate_private_key(ec.SECP521R1()),
    "p-224": ec.generate_private_key(ec.SECP224R1()),
    "secp256k1": ec.generate_private_key(ec.SECP256K1()),
    "brainpool-256": ec.generate_private_key(ec.BrainpoolP256R1()),
    "ed25519": ed25519.Ed25519PrivateKey.generate(),
    "ed448": ed448.Ed448PrivateKey.generate(),
    "dsa": dsa.generate_private_key(2048),
}

#: Signed with SHA-1, which our library makes no more; its keys are gone.
SIGNED_WITH_SHA1 = """\
-----BEGIN CERTIFICATE-----
MIICqjCCAZICAQEwDQYJKoZIhvcNAQEFBQAwFjEUMBIGA1UEAwwLYW4gb2xkIHJv
b3QwIBcNMjYxMTI3MDUxMDE2WhgPMjEyNjExMDMwNTEwMTZaMB4xHDAaBgNVBAMM
E2FuIG9sZCBpbnRlcm1lZGlhdGUwggEiMA0GCSqGSIb3DQEBAQUAA4IBDwAwggEK
AoIBAQDwNymdzoc0CvVOSjcaQfiP4Xajgc3F+37UTokonfQwVT8noSIcskRhWUDg
QmyjbpmGHUkg3RA5tovVwf4t/pBDqB0TELGh/fz5Oh8KTnXt3no3WS/K6YXhatPA
gsMf/IGpjmVG1AseLpfEzERELboyr8CPF/BIivh5BeHp6gPUsvnbgH1yVOa1Q1XO
xJ5rLSQgdQjYkBJIB3WLyjAFgwF+a13E5GWM9QmYzUBbieZ+tyDHad9LJoIUsKh+
aIm924sd1CgnZssRi1fxVxxmWEf8Cjivp/LCPR45pjQD43EgoQLOFpWNrpKeqAAp
pk5ddKUIBU+L3v1IfGplZIlxLLDVAgMBAAEwDQYJKoZIhvcNAQEFBQADggEBABfo
DstNTWZW6o+0bgQ5dW8e9SEsBzEFqEXahoaQqSafTXIPP9i3MMGc+iH31rv0ug1b
G8znv9fbcwwiu35NxdY/SIkfAAiMJR1Arqm3/uV+3tQczvna+U1tRpHpBRabarAt
DWk9ac4pCwj905/a0i6M/LddsBS7sQ0I0qxZgf0oIqOGja4A8EFSHxy3kJtW47Ms
YdD7cfJrFQyp1IAtS1VLCy/hR66HNOPl0V72X2QOmxM1osFrdQQqV7OGxFYV20lb
N4ZPlynl5K/bYrrPHpjMP5oYm1QYUFBXiB60Yi5vw3KI51ImadGQIO2cxXKLqY72
Ifhwa7MEVywyawuhxhg=
-----END CERTIFICATE-----
"""


def make(
    key: Any = P256,
    *,
    names: Sequence[str] = ("localhost",),
    extensions: Sequence[x509.ExtensionType] = (),
    issuer: Any = None,
    starts: dt.timedelta = dt.timedelta(hours=-1),
    ends: dt.timedelta = dt.timedelta(days=30),
    now: dt.datetime | None = None,
) -> tuple[str, str]:
    """A certificate and its key, PEM. `issuer` is the key of another who signs it."""
    now = now or dt.datetime.now(dt.UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    other = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "an issuer")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else other)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + starts)
        .not_valid_after(now + ends)
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
    )
    if names:
        san = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
        builder = builder.add_extension(san, critical=False)
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    signing = key if issuer is None else issuer
    unhashed = isinstance(signing, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey)
    hashed = None if unhashed else hashes.SHA256()
    return pem_of(builder.sign(signing, hashed)), key_pem_of(key)


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


def client_only() -> x509.ExtendedKeyUsage:
    """The usage of a client's certificate."""
    return x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])


def joined(*blocks: str) -> str:
    """PEM blocks without a line end between them."""
    return "".join(block.strip() for block in blocks)


def indented(pem: str) -> str:
    """As a YAML block that was pasted with its indentation."""
    return "".join(f"    {line}\n" for line in pem.splitlines())


def as_pkcs12_tools_write(pem: str) -> str:
    """With the lines that `openssl pkcs12 -nodes` puts before a block."""
    return (
        "Bag Attributes\n    friendlyName: Zertifikat für Müller\n    localKeyID: 01 02\n"
        f"subject=CN = localhost\n\nissuer=CN = localhost\n\n{pem}"
    )


def der_as_text(pem: str) -> str:
    """What DER is after a reader that took it for text."""
    body = "".join(line for line in pem.splitlines() if not line.startswith("-----"))
    return base64.b64decode(body).decode(errors="replace")
