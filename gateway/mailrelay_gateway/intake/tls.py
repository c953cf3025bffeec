"""TLS of listeners: SSL contexts made from certificates in the configuration, chosen by SNI. TLS
1.2 at least.

A context is made once per certificate chain and kept across reloads (with its session tickets) as
long as the configuration has that chain; a reload gives new handshakes new contexts and does not
affect open sessions.
"""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from mailrelay_gateway.chain_in_memory import load_chain
from mailrelay_gateway.contract.documents import Certificate
from mailrelay_gateway.contract.pem import PemProblem, read_pair, serving_problem

log = structlog.get_logger()

#: Suites of TLS 1.2: Mozilla's intermediate list without DHE, for which parameters would have to be
#: made. No CBC. TLS 1.3 has suites of its own.
CIPHERS = ":".join(
    f"ECDHE-{key}-{suite}"
    for suite in ("AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305")
    for key in ("ECDSA", "RSA")
)

_SniCallback = Callable[[ssl.SSLObject | ssl.SSLSocket, str | None, ssl.SSLContext], None]


class CertificateError(ValueError):
    """A certificate that cannot be used; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerTls:
    """What a listener uses: the initial context, and when the first certificate expires (Unix
    seconds).
    """

    context: ssl.SSLContext
    expires_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Loaded:
    context: ssl.SSLContext
    names: tuple[str, ...]
    expires_at: float


class CertificateStore:
    """Contexts by certificate; one for the whole gateway."""

    def __init__(self) -> None:
        """No certificate yet."""
        self._loaded: dict[bytes, _Loaded] = {}

    def copy(self) -> CertificateStore:
        """A copy, for a configuration that may not take effect."""
        other = CertificateStore()
        other._loaded = dict(self._loaded)
        return other

    def load(self, certificates: tuple[Certificate, ...]) -> ServerTls:
        """The context for these certificates, the first being the default; CertificateError if one
        is unusable.
        """
        if not certificates:
            raise CertificateError("has TLS but no certificate")
        loaded = [self._load(certificate) for certificate in certificates]
        default = loaded[0]
        if len(loaded) > 1:
            default = _load(certificates[0])  # its own context: its SNI table is this listener's
            by_name = {name: each.context for each in reversed(loaded) for name in each.names}
            default.context.sni_callback = _chooser(by_name, default.context)
        return ServerTls(
            context=default.context, expires_at=min(each.expires_at for each in loaded)
        )

    def keep(self, certificates: tuple[Certificate, ...]) -> None:
        """Forget every context but those of `certificates`."""
        keys = {_key(certificate) for certificate in certificates}
        self._loaded = {key: each for key, each in self._loaded.items() if key in keys}

    def _load(self, certificate: Certificate) -> _Loaded:
        key = _key(certificate)
        if key not in self._loaded:
            self._loaded[key] = _load(certificate)
        return self._loaded[key]


def _key(certificate: Certificate) -> bytes:
    return hashlib.sha256(f"{certificate.chain}\0{certificate.key}".encode()).digest()


def _load(certificate: Certificate) -> _Loaded:
    try:
        pair = read_pair(
            certificate.chain, certificate.key, chain_field="tls.crt", key_field="tls.key"
        )
    except PemProblem as problem:
        raise CertificateError(str(problem)) from None
    if refused := serving_problem(pair, now=datetime.now(UTC)):
        # No reason to serve no client: some do not check it.
        log.warning("certificate_refused_by_clients", names=pair.dns_names, error=refused)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.options |= ssl.OP_NO_RENEGOTIATION
    try:
        load_chain(context, f"{pair.pem}{pair.key_pem}".encode())
    except ssl.SSLError as error:  # what our reader takes and OpenSSL does not
        raise CertificateError(
            f"has a certificate that OpenSSL does not accept ({error.reason})"
        ) from None
    return _Loaded(
        context=context,
        names=pair.dns_names,
        expires_at=pair.certificate.not_valid_after_utc.timestamp(),
    )


def _chooser(by_name: Mapping[str, ssl.SSLContext], default: ssl.SSLContext) -> _SniCallback:
    def choose(tls: ssl.SSLObject | ssl.SSLSocket, name: str | None, _: ssl.SSLContext) -> None:
        found = find_by_name(by_name, name or "")
        if found is not None and found is not default:
            tls.context = found

    return choose


def find_by_name(by_name: Mapping[str, ssl.SSLContext], name: str) -> ssl.SSLContext | None:
    """The context of exactly that name, else of the wildcard over its last labels (RFC 6125 section
    6.4.3).
    """
    name = name.lower().rstrip(".")
    return by_name.get(name) or by_name.get(f"*.{name.partition('.')[2]}")
