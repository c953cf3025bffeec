"""Translates a MailRelay's spec and its resolved references into the documents of the gateway's
configuration. Pure.

The format is mailrelay_gateway.contract. This module also reads back what was written.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from mailrelay_gateway.contract import documents
from mailrelay_gateway.contract.documents import RelayDocument
from mailrelay_gateway.contract.files import RELAY_FILE, ConfigError, GatewayConfig, encode, load
from mailrelay_gateway.contract.replies import ReplyOutcome, ReplyScope
from mailrelay_gateway.contract.stage import Stage
from mailrelay_operator.api.expanding import Expanded, expand
from mailrelay_operator.api.listeners import Listener
from mailrelay_operator.api.mailrelay import MailRelaySpec
from mailrelay_operator.api.presets import PresetReply
from mailrelay_operator.api.replies import ReplyRule
from mailrelay_operator.api.smarthosts import Smarthost
from mailrelay_operator.api.upstreams import Pace, Route, Upstream
from mailrelay_operator.plan.facts import Place
from mailrelay_operator.plan.resolving import Resolved


def relay_document(
    spec: MailRelaySpec,
    *,
    relay: documents.RelayReference,
    resolved: Resolved,
    own_certificate: documents.Certificate | None,
    admin_token_sha256: str,
    replicas: int,
    namespaces: Mapping[str, Mapping[str, str]],
    place: Place,
) -> RelayDocument:
    """The file `relay`. `own_certificate` is used by every TLS listener without one; the gateway
    divides limits by `replicas`, the number running; `namespaces` are the labels of those that may
    have mail here."""
    return RelayDocument(
        relay=relay,
        hostname=spec.hostname,
        suspend=spec.suspend,
        replicas=replicas,
        listeners=tuple(
            _listener(listener, resolved, own_certificate, standalone=place.standalone)
            for listener in spec.listeners
        ),
        upstreams=tuple(
            _upstream(upstream, resolved, replicas)
            for upstream in spec.upstreams
            if upstream.name not in resolved.omitted
        ),
        routes=tuple(_route(route, namespaces) for route in spec.routes),
        limits=_limits(spec),
        retry=documents.Retry(
            give_up_after=spec.retry.give_up_after.seconds,
            max_interval=spec.retry.max_interval.seconds,
            warn_after=spec.retry.warn_after.seconds,
        ),
        null_sender=spec.rewrite.null_sender or "",
        admin_token_sha256=admin_token_sha256,
        # In a cluster only: standalone, the admin port is plain HTTP on loopback.
        admin_certificate=None if place.standalone else own_certificate,
        egress=documents.Egress(
            allowed_cidrs=place.allowed_egress,
            # Standalone, the user may also allow loopback networks.
            loopback=place.standalone,
            proxy=place.egress_proxy,
        ),
    )


def token_hash(token: str) -> str:
    """SHA-256 of a generated token or password, in hex: sufficient for 256 random bits."""
    return hashlib.sha256(token.encode()).hexdigest()


def bound_port(listener: Listener, *, standalone: bool) -> int:
    """The port that the gateway binds: the listener's own standalone, an unprivileged one in a
    pod."""
    return listener.port if standalone else listener.pod_port


def read_back(files: Mapping[str, bytes]) -> GatewayConfig | None:
    """The configuration as last written; files that are damaged or of a newer schema count as
    absent."""
    usable = dict(files)
    if RELAY_FILE not in usable:
        usable[RELAY_FILE] = _PLACEHOLDER
    while True:
        try:
            found = load(usable)
        except ConfigError as error:
            if error.file not in usable or usable[error.file] is _PLACEHOLDER:
                return None
            usable[error.file] = _PLACEHOLDER
            if error.file != RELAY_FILE:
                del usable[error.file]
            continue
        return found


def is_placeholder(document: RelayDocument) -> bool:
    """Whether `read_back` found no document of the relay."""
    return document.relay.name == ""


def _listener(
    listener: Listener,
    resolved: Resolved,
    own_certificate: documents.Certificate | None,
    *,
    standalone: bool,
) -> documents.Listener:
    mode = documents.TlsMode(listener.tls.mode)
    certificates = resolved.certificates.get(listener.name, ())
    if mode is not documents.TlsMode.NONE and not certificates and own_certificate is not None:
        certificates = (own_certificate,)
    return documents.Listener(
        name=listener.name,
        protocol="SMTP",
        port=bound_port(listener, standalone=standalone),
        tls=documents.ListenerTls(mode=mode, certificates=certificates),
        authentication=documents.ListenerAuthentication(
            mode=documents.AuthenticationMode(listener.authentication.mode),
            client_cidrs=tuple(listener.authentication.client_cidrs),
        ),
    )


def _upstream(upstream: Upstream, resolved: Resolved, replicas: int) -> documents.Upstream:
    expanded = expand(upstream, replicas=replicas)
    return documents.Upstream(
        name=upstream.name,
        settings=_settings(upstream, expanded, resolved),
        connections=expanded.connections,
        messages_per_connection=expanded.messages_per_connection,
        max_size=expanded.max_size,
        max_recipients=expanded.max_recipients,
        pace=tuple(_pace(one) for one in expanded.pace),
        replies=(
            *(_reply_rule(one) for one in expanded.replies),
            *(_preset_reply(one) for one in expanded.preset_replies),
        ),
        attribution=tuple(
            documents.Attribution(header=one.header, template=one.effective_template)
            for one in upstream.attribution
        ),
        control_headers=expanded.control_headers,
        pass_headers=expanded.pass_headers,
    )


def _pace(given: Pace) -> documents.Pace:
    count, unit = given.recipients, documents.RateUnit.RECIPIENTS
    if count is None:
        count, unit = given.messages, documents.RateUnit.MESSAGES
    assert count is not None  # a rule of the API
    return documents.Pace(name=given.name, unit=unit, count=count, per=given.per.seconds)


#: The stages of the API by their names there.
_STAGES = {stage.name.replace("_", "").lower(): stage for stage in Stage}


def _reply_rule(given: ReplyRule) -> documents.ReplyRule:
    return documents.ReplyRule(
        name=given.name,
        stage=_STAGES[given.stage.lower()] if given.stage is not None else None,
        code=given.code,
        enhanced=given.enhanced,
        text=given.text,
        outcome=ReplyOutcome(given.outcome),
        after=given.after.seconds if given.after is not None else None,
        scope=ReplyScope(given.scope),
        reason="",
    )


def _preset_reply(given: PresetReply) -> documents.ReplyRule:
    return documents.ReplyRule(
        name=given.name,
        stage=None,
        code=given.code,
        enhanced=None,
        text=given.text,
        outcome=ReplyOutcome(given.outcome),
        after=None,
        scope=ReplyScope.UPSTREAM,
        reason=given.reason,
    )


def _settings(upstream: Upstream, expanded: Expanded, resolved: Resolved) -> documents.Settings:
    if upstream.smarthost is not None:
        return _smarthost(upstream.name, upstream.smarthost, expanded, resolved)
    if upstream.api is not None:
        return resolved.apis[upstream.name]
    # Other kinds have been refused as Unsupported.
    assert upstream.sandbox is not None
    return documents.Sandbox(keep=upstream.sandbox.keep)


def _smarthost(
    name: str, smarthost: Smarthost, expanded: Expanded, resolved: Resolved
) -> documents.Smarthost:
    return documents.Smarthost(
        hosts=tuple(documents.HostPort(host=one.host, port=one.port) for one in expanded.hosts),
        tls=documents.UpstreamTls(
            mode=documents.TlsMode(expanded.tls_mode),
            ca=resolved.authorities.get(name),
            server_name=smarthost.tls.server_name,
            certificate=resolved.client_certificates.get(name),
        ),
        auth=resolved.logins.get(name),
    )


def _route(route: Route, namespaces: Mapping[str, Mapping[str, str]]) -> documents.Route:
    selector = route.match.namespace_selector
    return documents.Route(
        name=route.name,
        match=documents.RouteMatch(
            sender_domains=route.match.sender_domains,
            recipient_domains=route.match.recipient_domains,
            namespaces=None
            if selector is None
            else tuple(sorted(name for name in namespaces if selector.matches(namespaces[name]))),
        ),
        upstreams=tuple(
            documents.RouteUpstream(name=one.name, weight=one.weight) for one in route.upstreams
        ),
    )


def _limits(spec: MailRelaySpec) -> documents.Limits:
    return documents.Limits(
        max_size=spec.limits.message.max_size.octets,
        max_recipients=spec.limits.message.max_recipients,
        on_too_many_recipients=documents.OnTooManyRecipients(
            spec.limits.message.on_too_many_recipients
        ),
        long_lines=documents.LongLines(spec.limits.message.long_lines),
        rates=tuple(
            documents.Rate(
                scope=documents.Scope(rate.scope),
                unit=documents.RateUnit(rate.unit),
                count=rate.count,
                per=rate.per.seconds,
                burst=rate.effective_burst,
                on_limit=documents.OnLimit(rate.on_limit),
            )
            for rate in spec.limits.rates
        ),
    )


#: In the place of a relay's document that is not there. A spec that is never in force makes it, so
#: that it has every field.
_PLACEHOLDER = encode(
    relay_document(
        MailRelaySpec.model_validate(
            {"hostname": "nobody.invalid", "upstreams": [{"name": "none", "sandbox": {}}]}
        ),
        relay=documents.RelayReference(namespace="", name="", uid="", generation=0),
        resolved=Resolved(),
        own_certificate=None,
        admin_token_sha256="",
        replicas=1,
        namespaces={},
        place=Place(),
    ).model_copy(update={"listeners": (), "upstreams": ()})
)
