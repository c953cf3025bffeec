"""Keys and PEM of every odd kind: what people give us."""

from __future__ import annotations

import base64
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.peers.certificates import P256

#: Made once: an RSA key takes a while.
RSA_2048 = rsa.generate_private_key(65537, 2048)
RSA_1024 = rsa.generate_private_key(65537, 1024)
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
