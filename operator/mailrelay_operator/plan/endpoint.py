"""Where a tenant's client connects: the first listener that accepts logins, and the name in its
certificate. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass

from mailrelay_operator.api import conditions
from mailrelay_operator.api.listeners import Listener
from mailrelay_operator.api.mailrelay import MailRelaySpec
from mailrelay_operator.api.names import service_host
from mailrelay_operator.api.reasons import Reason
from mailrelay_operator.plan.certificates import carries
from mailrelay_operator.plan.facts import Place
from mailrelay_operator.plan.resolving import Resolved
from mailrelay_operator.plan.verdicts import Trouble


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Host and port of a relay for its tenants. `authority` is the CA (PEM) to verify it with;
    empty for a public one."""

    listener: str
    host: str
    port: int
    implicit_tls: bool
    authority: str = ""

    @property
    def shown(self) -> conditions.Endpoint:
        """The endpoint as in a status."""
        return conditions.Endpoint(
            host=self.host, port=self.port, tls="Implicit" if self.implicit_tls else "StartTLS"
        )


def login_listener(spec: MailRelaySpec) -> Listener | None:
    """The first SMTP listener with TLS, where tenants log in; None if there is none."""
    for listener in spec.listeners:
        if listener.protocol == "SMTP" and listener.tls.mode != "None":
            return listener
    return None


def endpoint_of(
    spec: MailRelaySpec,
    *,
    namespace: str,
    name: str,
    place: Place,
    resolved: Resolved,
    own_authority: str,
) -> Endpoint | None:
    """Where tenants connect; None if no listener accepts logins."""
    listener = login_listener(spec)
    if listener is None:
        return None
    host = service_host(name, namespace)
    if place.standalone:
        host = place.loopback_host
    elif spec.service.hostname is not None:
        host = spec.service.hostname
    own = not listener.tls.certificate_refs
    return Endpoint(
        listener=listener.name,
        host=host,
        port=listener.port,
        implicit_tls=listener.tls.mode == "Implicit",
        authority=own_authority if own else resolved.given_authorities.get(listener.name, ""),
    )


def endpoint_trouble(endpoint: Endpoint | None, resolved: Resolved) -> Trouble | None:
    """Why clients that verify certificates could not log in: no listener accepts logins, or a
    provided certificate lacks the host's name. The relay's own always has it."""
    if endpoint is None:
        return Trouble(
            reason=Reason.NO_LOGIN_LISTENER,
            message=Reason.NO_LOGIN_LISTENER.sentence,
            path="spec.listeners",
        )
    chains = resolved.certificates.get(endpoint.listener, ())
    if not chains or any(carries(one.chain, endpoint.host) for one in chains):
        return None
    return Trouble(
        reason=Reason.CERTIFICATE_NAME_MISMATCH,
        path=f"spec.listeners[{endpoint.listener}].tls.certificateRefs",
        message=f"No certificate of listener {endpoint.listener} is valid for {endpoint.host}: set"
        " the relay's service.hostname to a name in a certificate that resolves to the"
        " Service.",
    )
