"""Generates keys, certificates, passwords and salts, and computes scrypt. plan/ decides what is
needed.

Everything here is thread-safe and stateless.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mailrelay_gateway.contract.documents import Certificate, ScryptVerifier
from mailrelay_operator.plan.certificates import AUTHORITY_LIFE, BACKDATED, LEAF_LIFE
from mailrelay_operator.plan.facts import Authority, LeafWanted, Material, ScryptWanted, Wanted

#: 256 bits cannot be guessed, so that a plain SHA-256 may verify them.
SECRET_OCTETS = 32
#: scrypt's cost (RFC 7914): 32 MiB and about 60 ms, OWASP's second recommendation; each login at
#: the gateway costs as much.
SCRYPT_N, SCRYPT_R, SCRYPT_P = 1 << 15, 8, 1
_SCRYPT_MEMORY = 64 * 1024 * 1024


def mint(wanted: Wanted, *, relay: str, now: datetime) -> Material:
    """Generate everything wanted. `relay` is NAMESPACE/NAME, for the CA's subject."""
    authority = mint_authority(relay, now=now) if wanted.authority else None
    following = mint_authority(relay, now=now) if wanted.next_authority else None
    leaf = None
    if wanted.leaf is not None:
        issuer = wanted.leaf.authority or authority
        if issuer is None:
            raise ValueError("a leaf is wanted, but there is neither an authority nor one to mint")
        leaf = mint_leaf(wanted.leaf, issuer, now=now)
    return Material(
        authority=authority,
        next_authority=following,
        admin_token=mint_password() if wanted.admin_token else "",
        leaf=leaf,
    )


def mint_password() -> str:
    """32 random octets in base64url: 43 characters, none of which needs quoting anywhere.

    It never begins with a hyphen, since programs take such an argument for an option.
    """
    while (password := secrets.token_urlsafe(SECRET_OCTETS)).startswith("-"):
        pass
    return password


def scrypt_verifier(wanted: ScryptWanted) -> ScryptVerifier:
    """The known verifier that matches the password, to keep the configuration's digest; otherwise a
    new one."""
    for known in wanted.known:
        expected = bytes.fromhex(known.hash)
        found = _scrypt(wanted.password, bytes.fromhex(known.salt), known, len(expected))
        if hmac.compare_digest(found, expected):
            return known
    salt = secrets.token_bytes(16)
    verifier = ScryptVerifier(n=SCRYPT_N, r=SCRYPT_R, p=SCRYPT_P, salt=salt.hex(), hash="")
    return verifier.model_copy(update={"hash": _scrypt(wanted.password, salt, verifier, 32).hex()})


def _scrypt(password: bytes, salt: bytes, cost: ScryptVerifier, length: int) -> bytes:
    return hashlib.scrypt(
        password, salt=salt, n=cost.n, r=cost.r, p=cost.p, maxmem=4 * _SCRYPT_MEMORY, dklen=length
    )


def mint_authority(relay: str, *, now: datetime) -> Authority:
    """A private CA (P-256) that may issue only leaf certificates."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "mailrelay"),
            # RFC 5280 appendix A bounds a common name to 64 characters.
            x509.NameAttribute(NameOID.COMMON_NAME, f"CA of {relay}"[:64]),
        ]
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + AUTHORITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, SHA256())
    )
    return Authority(certificate=_pem(certificate), key=_key_pem(key))


def mint_leaf(wanted: LeafWanted, issuer: Authority, *, now: datetime) -> Certificate:
    """A server certificate (P-256) with the wanted names, issued by `issuer`."""
    ca = x509.load_pem_x509_certificate(issuer.certificate.encode())
    ca_key = load_pem_private_key(issuer.key.encode(), password=None)
    if not isinstance(ca_key, ec.EllipticCurvePrivateKey):
        raise TypeError("the key of the relay's CA is not an elliptic curve key")
    key = ec.generate_private_key(ec.SECP256R1())
    names: list[x509.GeneralName] = [x509.DNSName(name) for name in wanted.dns_names]
    names += [x509.IPAddress(ipaddress.ip_address(address)) for address in wanted.addresses]
    certificate = (
        x509.CertificateBuilder()
        # Only the SANs count (RFC 6125); an empty subject makes them critical (RFC 5280 section
        # 4.2.1.6).
        .subject_name(x509.Name([]))
        .issuer_name(ca.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(min(now + LEAF_LIFE, ca.not_valid_after_utc))
        .add_extension(x509.SubjectAlternativeName(names), critical=True)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(
                ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
            ),
            critical=False,
        )
        .sign(ca_key, SHA256())
    )
    return Certificate(chain=_pem(certificate), key=_key_pem(key))


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()


def _key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
