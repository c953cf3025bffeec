"""TLS towards upstreams: always verified, by the system's authorities or by the given bundle.

Contexts, the handshake, and its errors in words; `connection` decides when to shake hands.
"""

from __future__ import annotations

import asyncio
import ssl
from functools import lru_cache

from mailrelay_gateway.chain_in_memory import load_chain
from mailrelay_gateway.contract.documents import Certificate, UpstreamTls
from mailrelay_gateway.contract.pem import PemProblem, read_bundle, read_pair
from mailrelay_gateway.couriers.smtp.deadlines import Deadlines


class UnusableBundle(ValueError):
    """The `ca` of an upstream is not a bundle of PEM certificates, or its `certificate` is none."""


class NoTls(ConnectionError):
    """The server spoke SMTP where it should have waited for our hello."""


class HandshakeFailed(Exception):
    """No TLS; `error` says why."""

    def __init__(self, error: Exception) -> None:
        """Keep what the loop or OpenSSL raised."""
        super().__init__(str(error))
        self.error = error


def client_context(settings: UpstreamTls) -> ssl.SSLContext:
    """A context that verifies certificate and name, TLS 1.2 or later. Raises UnusableBundle.

    A bundle replaces the system's authorities. Any certificate in it is trusted, also an
    intermediate one or the server's own. It takes some milliseconds, so it is made once.
    """
    return _context(settings.ca, "tls.caRef", settings.certificate)


def endpoint_context(ca: str | None) -> ssl.SSLContext:
    """The same for the token endpoint of a login."""
    return _context(ca, "auth.oauth2.tokenCARef", None)


#: More than a relay has upstreams: what was made when a configuration was prepared is still there
#: when it takes effect.
@lru_cache(maxsize=256)
def _context(ca: str | None, field: str, certificate: Certificate | None) -> ssl.SSLContext:
    if ca is None:
        context = ssl.create_default_context()
    else:
        try:
            bundle = read_bundle(ca, field="ca.crt")
        except PemProblem as problem:
            raise UnusableBundle(f"{field} {problem}") from None
        try:
            context = ssl.create_default_context(cadata=bundle.pem)
        except (ssl.SSLError, ValueError) as error:  # what our parser accepts and OpenSSL does not
            raise UnusableBundle(f"{field} is refused by OpenSSL ({error})") from None
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    # Python 3.13 began to insist on what private authorities often lack (key identifiers): the same
    # everywhere.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if certificate is not None:
        _show(context, certificate)
    return context


def _show(context: ssl.SSLContext, certificate: Certificate) -> None:
    """Show this certificate to a server that asks for one."""
    try:
        pair = read_pair(
            certificate.chain, certificate.key, chain_field="tls.crt", key_field="tls.key"
        )
        load_chain(context, f"{pair.pem}{pair.key_pem}".encode())
    except PemProblem as problem:
        raise UnusableBundle(f"tls.certificateRef {problem}") from None
    except ssl.SSLError as error:  # what our reader takes and OpenSSL does not
        raise UnusableBundle(f"tls.certificateRef is refused by OpenSSL ({error.reason})") from None


def describe_tls_error(error: Exception | None, server_name: str) -> str:
    """What went wrong in a handshake, as a sentence for the person who set it up."""
    if error is None:
        return "closed the connection during the TLS handshake"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not valid for {server_name}: {error.verify_message}"
    no_tls = isinstance(error, ssl.SSLError) and error.reason == "WRONG_VERSION_NUMBER"
    if no_tls or isinstance(error, NoTls):
        return "it does not speak TLS on this port; for a submission port tls.mode is StartTLS"
    if isinstance(error, ssl.SSLError):
        return f"TLS handshake failed: {error.reason or error}"
    if isinstance(error, ConnectionAbortedError | TimeoutError):  # asyncio uses the former
        return "the TLS handshake timed out"
    return f"TLS handshake failed: {str(error) or type(error).__name__}"


async def start_tls(
    transport: asyncio.Transport,
    protocol: asyncio.Protocol,
    *,
    context: ssl.SSLContext | None,
    server_name: str,
    deadlines: Deadlines,
) -> asyncio.Transport:
    """Shake hands over a connected transport and verify; the new transport, or HandshakeFailed."""
    assert context is not None  # modes with TLS have one
    try:
        upgraded = await asyncio.get_running_loop().start_tls(
            transport,
            protocol,
            context,
            server_hostname=server_name,
            ssl_handshake_timeout=deadlines.tls,
            ssl_shutdown_timeout=deadlines.quit,
        )
    except (OSError, ValueError) as error:
        # ssl.SSLError, TimeoutError and ConnectionError are OSErrors; ValueError: no possible name.
        raise HandshakeFailed(error) from None
    if upgraded is None:
        raise HandshakeFailed(ConnectionResetError("the connection was closed"))
    return upgraded


def tls_version(transport: asyncio.Transport) -> str:
    """As in `TLSv1.3`."""
    version = transport.get_extra_info("ssl_object").version()
    return str(version or "")
