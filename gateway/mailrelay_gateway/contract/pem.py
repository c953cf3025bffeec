"""The one parser of certificates and keys, for operator, `mailrelay check` and gateway, so that all
accept the same. Pure.

Text around PEM blocks is ignored (RFC 7468 section 2: comments, names that PKCS#12 tools write, a
byte order mark), blocks may be indented or joined without a line end, and the result is re-encoded,
so that OpenSSL sees only what was parsed here. A problem is the end of a sentence whose subject is
the object: "Secret mail/cert" + "has no PEM certificate in tls.crt".
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID

#: Curves that TLS clients support (RFC 8446 section 4.2.7).
CURVES = ("secp256r1", "secp384r1", "secp521r1")
#: OpenSSL's minimum for a server at security level 2: 112 bits.
RSA_BITS = 2048
WEAK_HASHES = ("md5", "sha1")

_BLOCK = re.compile(r"-----BEGIN ([A-Z0-9][A-Z0-9 ]*)-----(.*?)-----END \1-----", re.DOTALL)
_BEGIN = re.compile(r"-----BEGIN ([A-Z0-9][A-Z0-9 ]*)-----")
_CERTIFICATES = ("CERTIFICATE", "X509 CERTIFICATE")
_KEYS = ("PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY")

ServerKey = (
    rsa.RSAPrivateKey
    | ec.EllipticCurvePrivateKey
    | ed25519.Ed25519PrivateKey
    | ed448.Ed448PrivateKey
)
_PRIVATE_KEYS = (
    rsa.RSAPrivateKey,
    ec.EllipticCurvePrivateKey,
    ed25519.Ed25519PrivateKey,
    ed448.Ed448PrivateKey,
)
_PUBLIC_KEYS = (
    rsa.RSAPublicKey,
    ec.EllipticCurvePublicKey,
    ed25519.Ed25519PublicKey,
    ed448.Ed448PublicKey,
)


class PemProblem(ValueError):
    """What is wrong with a PEM text, as the end of a sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """Parsed certificates, and their re-encoded PEM."""

    certificates: tuple[x509.Certificate, ...]
    pem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A server's chain, its own certificate first, with its key; the names and addresses that it is
    valid for. `pem` and `key_pem` are re-encoded.
    """

    certificate: x509.Certificate
    pem: str
    key_pem: str
    dns_names: tuple[str, ...]  # in lower case
    addresses: tuple[str, ...]


def read_bundle(text: str, *, field: str) -> Bundle:
    """The certificates of a bundle of CAs, without duplicates; raises PemProblem."""
    found = tuple(dict.fromkeys(_certificates(text, field)))
    return Bundle(certificates=found, pem=_write(found))


def read_pair(chain: str, key: str, *, chain_field: str, key_field: str) -> Pair:
    """A chain and its key, usable by clients; raises PemProblem.

    `serving_problem` checks what depends on the time.
    """
    certificates = _certificates(chain, chain_field)
    for number, certificate in enumerate(certificates, 1):
        if problem := _strength_problem(certificate, own=number == 1):
            raise PemProblem(f"has {_which(number, chain_field)} that clients refuse: {problem}")
    private, key_pem = _key(key, key_field)
    wanted = _public_octets(private.public_key())
    if _public_octets(certificates[0].public_key()) != wanted:
        raise PemProblem(
            f"has a key in {key_field} that does not match the first certificate in {chain_field}"
        )
    dns_names, addresses = names_of(certificates[0], field=chain_field)
    return Pair(
        certificate=certificates[0],
        pem=_write(dict.fromkeys(certificates)),
        key_pem=key_pem,
        dns_names=dns_names,
        addresses=addresses,
    )


def serving_problem(pair: Pair, *, now: datetime) -> str:
    """Why clients will refuse a valid certificate, as the end of a sentence; "" if they will not.

    The operator refuses it; a gateway uses it and logs the problem, since an expired certificate
    must not stop the mail of clients that do not verify it.
    """
    if problem := _time_problem(pair.certificate, now):
        return problem
    if not pair.dns_names and not pair.addresses:
        return (
            "has a certificate without a host name (subjectAltName), and clients ignore the common"
            " name; issue it for the host that clients connect to"
        )
    return _usage_problem(pair.certificate, ExtendedKeyUsageOID.SERVER_AUTH, "servers")


def showing_problem(pair: Pair, *, now: datetime) -> str:
    """Why servers will refuse a valid client certificate, as the end of a sentence; "" if they will
    not.
    """
    problem = _time_problem(pair.certificate, now)
    return problem or _usage_problem(pair.certificate, ExtendedKeyUsageOID.CLIENT_AUTH, "clients")


def _time_problem(certificate: x509.Certificate, now: datetime) -> str:
    if now > certificate.not_valid_after_utc:
        return f"expired on {certificate.not_valid_after_utc:%Y-%m-%d}; renew it"
    if now < certificate.not_valid_before_utc:
        return (
            f"is valid only from {certificate.not_valid_before_utc:%Y-%m-%dT%H:%M:%SZ};"
            " wait, or correct the clocks"
        )
    return ""


def _usage_problem(certificate: x509.Certificate, wanted: x509.ObjectIdentifier, whom: str) -> str:
    try:
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return ""
    if any(one in usage for one in (wanted, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE)):
        return ""
    return f"has a certificate that is not valid for {whom} (extendedKeyUsage); issue one that is"


def trust_problem(bundle: Bundle, *, now: datetime) -> str:
    """Why a bundle of CAs cannot verify anything, as the end of a sentence; "" if it can."""
    ends = max(one.not_valid_after_utc for one in bundle.certificates)
    if now <= ends:
        return ""
    return f"has only expired certificates, the last of {ends:%Y-%m-%d}; renew it"


def names_of(
    certificate: x509.Certificate, *, field: str
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The DNS names, in lower case, and the IP addresses that a certificate is valid for; raises
    PemProblem if it is malformed. The common name does not count (RFC 6125).
    """
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return (
            tuple(name.lower() for name in names.get_values_for_type(x509.DNSName)),
            tuple(str(address) for address in names.get_values_for_type(x509.IPAddress)),
        )
    except x509.ExtensionNotFound:
        return (), ()
    except Exception as error:  # whatever the parser of ASN.1 finds in what strangers issued
        raise PemProblem(
            f"has a certificate in {field} whose extensions are malformed ({error}); issue it again"
        ) from None


# --- certificates


def _certificates(text: str, field: str) -> list[x509.Certificate]:
    """Every certificate of a text, at least one."""
    found: list[x509.Certificate] = []
    others: list[str] = []
    for label, body in _blocks(text, field):
        if label in _CERTIFICATES:
            where = _which(len(found) + 1, field)
            found.append(_certificate(_decode(body, where), where))
        else:
            others.append(label)
    if found:
        return found
    if others:
        raise PemProblem(f"has no PEM certificate in {field}, but a block {others[0]!r}")
    raise PemProblem(f"has no PEM certificate in {field}{_what_else(text)}")


def _certificate(der: bytes, where: str) -> x509.Certificate:
    try:
        certificate = x509.load_der_x509_certificate(der)
        for lazily_parsed in ("subject", "issuer", "not_valid_before_utc", "not_valid_after_utc"):
            getattr(certificate, lazily_parsed)
    except Exception as error:  # whatever the parser of ASN.1 finds in what strangers issued
        raise PemProblem(f"has {where} that cannot be read ({error})") from None
    return certificate


def _strength_problem(certificate: x509.Certificate, *, own: bool) -> str:
    """Why clients refuse a certificate of a server's chain (`own`: its first); "" if they do
    not.
    """
    try:
        key = certificate.public_key()
        hashed = certificate.signature_hash_algorithm
    except Exception as error:  # an unsupported curve or algorithm
        return f"{error}"
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < RSA_BITS:
        return f"its RSA key has {key.key_size} bits; issue it with {RSA_BITS} or more"
    curve = key.curve.name if isinstance(key, ec.EllipticCurvePublicKey) else ""
    if own and curve and curve not in CURVES:
        return f"its key is on the curve {curve}; issue it on one of {', '.join(CURVES)}"
    if own and not isinstance(key, _PUBLIC_KEYS):
        return "its key is neither RSA nor elliptic; issue it with one that is"
    self_signed = certificate.subject == certificate.issuer
    if hashed is not None and hashed.name in WEAK_HASHES and not self_signed:
        return f"it is signed with {hashed.name}; issue it with SHA-256"
    return ""


def _public_octets(key: object) -> bytes:
    assert isinstance(key, _PUBLIC_KEYS)
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _write(certificates: Iterable[x509.Certificate]) -> str:
    return "".join(one.public_bytes(Encoding.PEM).decode() for one in certificates)


# --- keys


def _key(text: str, field: str) -> tuple[ServerKey, str]:
    """The first private key of a text, and its re-encoded block."""
    for label, body in _blocks(text, field):
        if label == "ENCRYPTED PRIVATE KEY" or "Proc-Type:4,ENCRYPTED" in body:
            raise PemProblem(f"has an encrypted private key in {field}; store it unencrypted")
        if label not in _KEYS:
            continue
        _decode(body, f"a private key in {field}")
        lines = "\n".join(body[at : at + 64] for at in range(0, len(body), 64))
        pem = f"-----BEGIN {label}-----\n{lines}\n-----END {label}-----\n"
        try:
            key = load_pem_private_key(pem.encode(), password=None)
        except Exception as error:  # whatever the parser of ASN.1 finds
            raise PemProblem(
                f"has a private key in {field} that cannot be read ({error})"
            ) from None
        if not isinstance(key, _PRIVATE_KEYS):
            raise PemProblem(f"has a private key in {field} that is neither RSA nor elliptic")
        return key, pem
    raise PemProblem(f"has no readable, unencrypted private key in {field}{_what_else(text)}")


# --- blocks


def _blocks(text: str, field: str) -> list[tuple[str, str]]:
    """(label, body without white space) of each block; raises PemProblem for one without an
    end.
    """
    found = [(label, "".join(body.split())) for label, body in _BLOCK.findall(text)]
    if len(found) < len(_BEGIN.findall(text)):
        raise PemProblem(f"is truncated in {field}: a block has no end")
    return found


def _decode(body: str, where: str) -> bytes:
    try:
        return base64.b64decode(body, validate=True)
    except ValueError:
        hint = "; it contains literal \\n instead of line ends" if "\\n" in body else ""
        raise PemProblem(f"has {where} that is not base64{hint}") from None


def _which(number: int, field: str) -> str:
    return f"a certificate in {field}" + (f" (number {number})" if number > 1 else "")


def _what_else(text: str) -> str:
    """What a text without a block may be, as the end of a sentence."""
    if not text.strip():
        return ": it is missing or empty"
    if text.startswith("0\ufffd"):  # a SEQUENCE of over 127 octets that was no UTF-8
        return ", but perhaps DER; convert it to PEM (openssl x509 or pkey, -inform DER)"
    return ""
