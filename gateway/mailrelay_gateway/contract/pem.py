"""The one reader of certificates and keys, for operator, `mailrelay check` and gateway: what
one of them takes, all take. Pure.

Text around PEM blocks is ignored (RFC 7468 section 2: comments, names that PKCS#12 tools write, a
byte order mark), blocks may be indented or joined without a line end, and what is handed on is
written anew, so that OpenSSL never sees what we did not. A problem is the end of a sentence whose
subject is the object: "Secret mail/cert" + "holds no PEM certificate in tls.crt".
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

#: Curves that TLS clients offer (RFC 8446 section 4.2.7); a certificate on another is shown to
#: nobody's satisfaction.
CURVES = ("secp256r1", "secp384r1", "secp521r1")
#: What OpenSSL asks of a server at its security level 2: 112 bits.
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
    """Certificates that were read, and the same written anew."""

    certificates: tuple[x509.Certificate, ...]
    pem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A server's chain, its own certificate first, with that one's key; the names and addresses
    that it is for. `pem` and `key_pem` were written anew.
    """

    certificate: x509.Certificate
    pem: str
    key_pem: str
    dns_names: tuple[str, ...]  # in lower case
    addresses: tuple[str, ...]


def read_bundle(text: str, *, field: str) -> Bundle:
    """The certificates of a bundle, each once, such as the CAs to trust; PemProblem."""
    found = tuple(dict.fromkeys(_certificates(text, field)))
    return Bundle(certificates=found, pem=_write(found))


def read_pair(chain: str, key: str, *, chain_field: str, key_field: str) -> Pair:
    """A chain and its key, fit to be shown to clients; PemProblem.

    What depends on the time of day is `serving_problem`'s.
    """
    certificates = _certificates(chain, chain_field)
    for number, certificate in enumerate(certificates, 1):
        if problem := _strength_problem(certificate, own=number == 1):
            raise PemProblem(f"has {_which(number, chain_field)} that clients refuse: {problem}")
    private, key_pem = _key(key, key_field)
    wanted = _public_octets(private.public_key())
    if _public_octets(certificates[0].public_key()) != wanted:
        raise PemProblem(
            f"has a key in {key_field} that is not that of the first certificate in {chain_field}"
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
    """Why clients will refuse a certificate that can be read, as the end of a sentence; "": they
    will not.

    The operator refuses such a one; a gateway that is given it serves it and says so, since a
    date that has passed must not stop the mail of clients that do not look.
    """
    certificate = pair.certificate
    if now > certificate.not_valid_after_utc:
        return f"expired on {certificate.not_valid_after_utc:%Y-%m-%d}; renew it"
    if now < certificate.not_valid_before_utc:
        return (
            f"is valid only from {certificate.not_valid_before_utc:%Y-%m-%dT%H:%M:%SZ};"
            " wait, or correct the clocks"
        )
    if not pair.dns_names and not pair.addresses:
        return (
            "has a certificate without a host name (subjectAltName), and clients do not look at"
            " the common name; issue it for the host that clients connect to"
        )
    try:
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return ""
    for_servers = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE)
    if not any(one in usage for one in for_servers):
        return "has a certificate that is not for servers (extendedKeyUsage); issue one that is"
    return ""


def trust_problem(bundle: Bundle, *, now: datetime) -> str:
    """Why nothing can be verified with a bundle of CAs that can be read, as the end of a sentence;
    "": something can.
    """
    ends = max(one.not_valid_after_utc for one in bundle.certificates)
    if now <= ends:
        return ""
    return f"holds only certificates that have expired, the last on {ends:%Y-%m-%d}; renew it"


def names_of(
    certificate: x509.Certificate, *, field: str
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The DNS names, in lower case, and the IP addresses that a certificate is for; PemProblem for
    one that is malformed. The common name does not count (RFC 6125).
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
        raise PemProblem(f"holds no PEM certificate in {field}, but a block {others[0]!r}")
    raise PemProblem(f"holds no PEM certificate in {field}{_what_else(text)}")


def _certificate(der: bytes, where: str) -> x509.Certificate:
    try:
        certificate = x509.load_der_x509_certificate(der)
        for lazily_parsed in ("subject", "issuer", "not_valid_before_utc", "not_valid_after_utc"):
            getattr(certificate, lazily_parsed)
    except Exception as error:  # whatever the parser of ASN.1 finds in what strangers issued
        raise PemProblem(f"has {where} that cannot be read ({error})") from None
    return certificate


def _strength_problem(certificate: x509.Certificate, *, own: bool) -> str:
    """Why clients refuse a certificate of a server's chain, its `own` or an issuer's; "" if they do
    not.
    """
    try:
        key = certificate.public_key()
        hashed = certificate.signature_hash_algorithm
    except Exception as error:  # a curve or an algorithm that the library does not know
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
    """The first private key of a text, and its block written anew."""
    for label, body in _blocks(text, field):
        if label == "ENCRYPTED PRIVATE KEY" or "Proc-Type:4,ENCRYPTED" in body:
            raise PemProblem(f"has a private key in {field} that is encrypted; store it without")
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
    raise PemProblem(f"holds no readable, unencrypted private key in {field}{_what_else(text)}")


# --- blocks


def _blocks(text: str, field: str) -> list[tuple[str, str]]:
    """(label, body) of each block, white space dropped from the body; PemProblem where one has no
    end.
    """
    found = [(label, "".join(body.split())) for label, body in _BLOCK.findall(text)]
    if len(found) < len(_BEGIN.findall(text)):
        raise PemProblem(f"is cut short in {field}: a block that begins has no end")
    return found


def _decode(body: str, where: str) -> bytes:
    try:
        return base64.b64decode(body, validate=True)
    except ValueError:
        hint = "; it has \\n written out where line ends belong" if "\\n" in body else ""
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
