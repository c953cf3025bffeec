"""Resolves a MailRelay's references (logins, certificates, CAs) among the facts. Pure.

One small function per kind of reference; each returns the value or a Trouble that names object, key
and remedy.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Protocol

from mailrelay_gateway.contract.api_upstreams import Api, Ses
from mailrelay_gateway.contract.documents import (
    Certificate,
    Login,
    RelayDocument,
    Smarthost,
    UnknownKind,
)
from mailrelay_gateway.contract.oauth2 import OAuth2
from mailrelay_gateway.contract.pem import PemProblem, read_bundle
from mailrelay_operator.api.listeners import Listener
from mailrelay_operator.api.mailrelay import MailRelaySpec
from mailrelay_operator.api.reasons import Reason
from mailrelay_operator.api.upstreams import Upstream
from mailrelay_operator.plan.api_upstreams import api_references, api_settings
from mailrelay_operator.plan.certificates import given_certificate, given_client_certificate
from mailrelay_operator.plan.facts import Absence, ObjectKey, RelayFacts
from mailrelay_operator.plan.objects import Manifest, secret_data
from mailrelay_operator.plan.referred import absent, trusted_bundle, unmarked
from mailrelay_operator.plan.token_logins import oauth2_of, token_login, token_references
from mailrelay_operator.plan.verdicts import Trouble

SECRET_TYPE_TLS = "kubernetes.io/tls"  # noqa: S105 - a type, not a password


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """The values of a spec's references, by the name of upstream or listener. `troubles` describe
    the current state of the references, even if a value known from before replaces one. `omitted`
    names the upstreams without a value: the rest of the spec is used without them, unless it is not
    `complete`: no upstream left, or a listener without its certificate."""

    logins: Mapping[str, Login | OAuth2] = field(default_factory=dict)
    apis: Mapping[str, Api] = field(default_factory=dict)
    authorities: Mapping[str, str] = field(default_factory=dict)
    certificates: Mapping[str, tuple[Certificate, ...]] = field(default_factory=dict)
    client_certificates: Mapping[str, Certificate] = field(default_factory=dict)
    given_authorities: Mapping[str, str] = field(default_factory=dict)
    troubles: tuple[Trouble, ...] = ()
    omitted: frozenset[str] = frozenset()
    complete: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Before:
    """The spec in effect, the document made from it, and the CAs provided with the listeners'
    certificates."""

    spec: MailRelaySpec
    document: RelayDocument
    authorities: Mapping[str, str] = field(default_factory=dict)


def references(spec: MailRelaySpec, namespace: str) -> Iterator[ObjectKey]:
    """Every object that the relay's spec refers to."""
    for listener in spec.listeners:
        for one in listener.tls.certificate_refs:
            yield ObjectKey(kind="Secret", namespace=namespace, name=one.name)
    for upstream in spec.upstreams:
        if upstream.api is not None:
            yield from api_references(upstream.api, namespace)
        if upstream.smarthost is None:
            continue
        if upstream.smarthost.auth is not None and upstream.smarthost.auth.basic is not None:
            login = upstream.smarthost.auth.basic.secret_ref
            yield ObjectKey(kind="Secret", namespace=namespace, name=login.name)
        by_token = oauth2_of(upstream)
        if by_token is not None:
            yield from token_references(by_token, namespace)
        if upstream.smarthost.tls.ca_ref is not None:
            trust = upstream.smarthost.tls.ca_ref
            yield ObjectKey(kind=trust.kind, namespace=namespace, name=trust.name)
        if upstream.smarthost.tls.certificate_ref is not None:
            shown = upstream.smarthost.tls.certificate_ref
            yield ObjectKey(kind="Secret", namespace=namespace, name=shown.name)


def resolve(facts: RelayFacts, spec: MailRelaySpec, before: Before | None) -> Resolved:
    """Resolve all references of the spec. An unusable one is replaced from `before` if that part of
    the spec is unchanged: deleting a Secret does not stop what runs."""
    logins: dict[str, Login | OAuth2] = {}
    apis: dict[str, Api] = {}
    authorities: dict[str, str] = {}
    certificates: dict[str, tuple[Certificate, ...]] = {}
    shown: dict[str, Certificate] = {}
    given: dict[str, str] = {}
    troubles: list[Trouble] = []
    omitted: set[str] = set()
    complete = True
    for upstream in spec.upstreams:
        if upstream.api is not None:
            found_api = api_settings(facts, upstream.name, upstream.api)
            if isinstance(found_api, Trouble):
                path = f"spec.upstreams[{upstream.name}].api.{found_api.path}"
                troubles.append(replace(found_api, path=path))
                kept_api = _api_before(before, upstream)
                if kept_api is None:
                    omitted.add(upstream.name)
                    continue
                found_api = kept_api
            apis[upstream.name] = found_api
            continue
        at = f"spec.upstreams[{upstream.name}].smarthost"
        login = _login_of(facts, upstream)
        authority = _authority_of(facts, upstream)
        certificate = _client_certificate_of(facts, upstream)
        wrong = [
            replace(one, path=f"{at}.{path}")
            for one, path in (
                (login, _login_path(upstream, login)),
                (authority, "tls.caRef"),
                (certificate, "tls.certificateRef"),
            )
            if isinstance(one, Trouble)
        ]
        if wrong:
            troubles += wrong
            known = _upstream_before(before, upstream)
            if known is None:
                omitted.add(upstream.name)
                continue
            login, authority, certificate = known
        if isinstance(login, Login | OAuth2):
            logins[upstream.name] = login
        if isinstance(authority, str):
            authorities[upstream.name] = authority
        if isinstance(certificate, Certificate):
            shown[upstream.name] = certificate
    for listener in spec.listeners:
        found = [
            _given_certificate(facts, listener, reference.name)
            for reference in listener.tls.certificate_refs
        ]
        wrong = [
            replace(one, path=f"spec.listeners[{listener.name}].tls.certificateRefs[{number}]")
            for number, one in enumerate(found)
            if isinstance(one, Trouble)
        ]
        chains = tuple(one for one in found if isinstance(one, Certificate))
        if wrong:
            troubles += wrong
            kept = _certificates_before(before, listener)
            if kept is None:
                complete = False
                continue
            chains = kept
        certificates[listener.name] = chains
        given[listener.name] = _given_authority(facts, listener, chains, before)
    return Resolved(
        logins=logins,
        apis=apis,
        authorities=authorities,
        certificates=certificates,
        client_certificates=shown,
        given_authorities=given,
        troubles=tuple(troubles),
        omitted=frozenset(omitted),
        complete=complete and len(omitted) < len(spec.upstreams),
    )


def login_in(secret: Manifest, *, what: str) -> Login | Trouble:
    """The username and password of a Secret that is marked as credentials; `what` names it in
    messages.

    White space around both is stripped: `echo password | base64` adds a newline.
    """
    trouble = unmarked(secret, what)
    if trouble is not None:
        return trouble
    data = secret_data(secret)
    found: dict[str, str] = {}
    for key in ("username", "password"):
        try:
            text = data.get(key, b"").decode().strip()
        except UnicodeDecodeError:
            return Trouble(
                reason=Reason.SECRET_INVALID,
                message=f"{what} has a {key} that is not UTF-8; correct it.",
            )
        if not text or "\0" in text:
            return Trouble(
                reason=Reason.SECRET_INVALID,
                message=f"{what} has no valid key {key}; it needs username and password.",
            )
        found[key] = text
    return Login(username=found["username"], password=found["password"])


def _login_of(facts: RelayFacts, upstream: Upstream) -> Login | OAuth2 | Trouble | None:
    by_token = oauth2_of(upstream)
    if by_token is not None:
        return token_login(facts, upstream.name, by_token)
    smarthost = upstream.smarthost
    if smarthost is None or smarthost.auth is None or smarthost.auth.basic is None:
        return None
    name = smarthost.auth.basic.secret_ref.name
    what = f"Secret {facts.namespace}/{name} of upstream {upstream.name}"
    found = facts.find("Secret", facts.namespace, name)
    return absent(found, what) if isinstance(found, Absence) else login_in(found, what=what)


def _login_path(upstream: Upstream, login: Login | OAuth2 | Trouble | None) -> str:
    """The field that a trouble with a login refers to."""
    if oauth2_of(upstream) is None or not isinstance(login, Trouble):
        return "auth.basic.secretRef.name"
    return f"auth.oauth2.{login.path}" if login.path else "auth.oauth2"


def _authority_of(facts: RelayFacts, upstream: Upstream) -> str | Trouble | None:
    if upstream.smarthost is None or upstream.smarthost.tls.ca_ref is None:
        return None
    return trusted_bundle(facts, upstream.smarthost.tls.ca_ref, of=f"upstream {upstream.name}")


def _client_certificate_of(facts: RelayFacts, upstream: Upstream) -> Certificate | Trouble | None:
    if upstream.smarthost is None or upstream.smarthost.tls.certificate_ref is None:
        return None
    name = upstream.smarthost.tls.certificate_ref.name
    what = f"Secret {facts.namespace}/{name} of upstream {upstream.name}"
    return _certificate_in(facts, name, what, given_client_certificate)


def _given_certificate(facts: RelayFacts, listener: Listener, name: str) -> Certificate | Trouble:
    what = f"Secret {facts.namespace}/{name} of listener {listener.name}"
    return _certificate_in(facts, name, what, given_certificate)


class _Given(Protocol):
    """Checks a certificate that somebody provided."""

    def __call__(self, certificate: Certificate, *, now: datetime) -> Certificate:
        """Raises PemProblem."""
        ...


def _certificate_in(
    facts: RelayFacts, name: str, what: str, given: _Given
) -> Certificate | Trouble:
    found = facts.find("Secret", facts.namespace, name)
    if isinstance(found, Absence):
        return absent(found, what)
    if found.get("type") != SECRET_TYPE_TLS:
        return Trouble(
            reason=Reason.SECRET_INVALID,
            message=f"{what} has the type {found.get('type') or 'Opaque'};"
            f" a certificate needs {SECRET_TYPE_TLS}.",
        )
    data = secret_data(found)
    certificate = Certificate(
        chain=data.get("tls.crt", b"").decode(errors="replace"),
        key=data.get("tls.key", b"").decode(errors="replace"),
    )
    try:
        return given(certificate, now=facts.now)
    except PemProblem as problem:
        return Trouble(reason=Reason.CERTIFICATE_INVALID, message=f"{what} {problem}.")


def _given_authority(
    facts: RelayFacts,
    listener: Listener,
    chains: tuple[Certificate, ...],
    before: Before | None,
) -> str:
    """The `ca.crt` that cert-manager writes next to a certificate, for tenants to verify it with;
    empty if none. It is kept as long as its chain, and passed on only if it can be parsed: tenants
    get no CA rather than a broken one."""
    found: dict[str, None] = {}
    for reference in listener.tls.certificate_refs:
        secret = facts.find("Secret", facts.namespace, reference.name)
        if not isinstance(secret, Absence):
            text = secret_data(secret).get("ca.crt", b"").decode(errors="replace")
            with contextlib.suppress(PemProblem):
                found[read_bundle(text, field="ca.crt").pem] = None
    if not found and before is not None and chains == _certificates_before(before, listener):
        return before.authorities.get(listener.name, "")
    return "".join(found)


def _upstream_before(
    before: Before | None, upstream: Upstream
) -> tuple[Login | OAuth2 | None, str | None, Certificate | None] | None:
    if before is None or upstream not in before.spec.upstreams:
        return None
    for known in before.document.upstreams:
        if known.name == upstream.name and isinstance(known.settings, Smarthost):
            auth = known.settings.auth
            if isinstance(auth, UnknownKind):
                return None  # written by a newer operator
            return auth, known.settings.tls.ca, known.settings.tls.certificate
    return None


def _api_before(before: Before | None, upstream: Upstream) -> Api | None:
    if before is None or upstream not in before.spec.upstreams:
        return None
    for known in before.document.upstreams:
        if known.name == upstream.name and isinstance(known.settings, Api):
            service = known.settings.service
            unknown = isinstance(service, UnknownKind) or (
                isinstance(service, Ses) and isinstance(service.credentials, UnknownKind)
            )
            return None if unknown else known.settings
    return None


def _certificates_before(
    before: Before | None, listener: Listener
) -> tuple[Certificate, ...] | None:
    if before is None or listener not in before.spec.listeners:
        return None
    for known in before.document.listeners:
        if known.name == listener.name and known.tls.certificates:
            return known.tls.certificates
    return None
