"""The OAuth2 logins of a MailRelay: resolves their references into the contract's login. Pure.

The owner of each Secret must have marked it as credentials, since its content is sent to a URL in
the MailRelay.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

from mailrelay_gateway.contract import oauth2 as contract
from mailrelay_operator.api.mailrelay import MailRelaySpec
from mailrelay_operator.api.oauth2 import OAuth2
from mailrelay_operator.api.reasons import Reason
from mailrelay_operator.api.upstreams import Upstream
from mailrelay_operator.plan.facts import ObjectKey, RelayFacts
from mailrelay_operator.plan.referred import (
    audience_trouble,
    secret_of,
    secret_text,
    trusted_bundle,
)
from mailrelay_operator.plan.verdicts import Trouble


def oauth2_of(upstream: Upstream) -> OAuth2 | None:
    """The OAuth2 login of an upstream, if it has one."""
    smarthost = upstream.smarthost
    return smarthost.auth.oauth2 if smarthost is not None and smarthost.auth is not None else None


def audience_of(upstream: Upstream) -> str:
    """The audience of the ServiceAccount token that an upstream needs; empty if none."""
    if upstream.api is not None:
        return upstream.api.audience
    login = oauth2_of(upstream)
    return login.effective_audience if login is not None else ""


def token_references(login: OAuth2, namespace: str) -> Iterator[ObjectKey]:
    """Every object that the login refers to."""
    for secret in (login.client_secret_ref, login.refresh_token_ref, login.service_account_key_ref):
        if secret is not None:
            yield ObjectKey(kind="Secret", namespace=namespace, name=secret.name)
    if login.token_ca_ref is not None:
        trust = login.token_ca_ref
        yield ObjectKey(kind=trust.kind, namespace=namespace, name=trust.name)


def audiences(spec: MailRelaySpec, allowed: tuple[str, ...]) -> tuple[str, ...]:
    """The allowed audiences among those of the tokens that the relay's pods need."""
    wanted = {audience_of(one) for one in spec.upstreams}
    return tuple(sorted(wanted & set(allowed)))


def keeps_refresh_tokens(spec: MailRelaySpec) -> bool:
    """Whether a login of the relay may have its refresh token replaced."""
    logins = (oauth2_of(one) for one in spec.upstreams)
    return any(login is not None and login.flow == "RefreshToken" for login in logins)


def token_login(facts: RelayFacts, name: str, login: OAuth2) -> contract.OAuth2 | Trouble:
    """The login of the upstream `name` for the gateway, or what is wrong with a reference."""
    grant = _grant(facts, name, login)
    if isinstance(grant, Trouble):
        return grant
    authority = None
    if login.token_ca_ref is not None:
        of = f"the token endpoint of upstream {name}"
        authority = trusted_bundle(facts, login.token_ca_ref, of=of)
    if isinstance(authority, Trouble):
        return replace(authority, path="tokenCARef")
    return contract.OAuth2(
        username=login.username,
        mechanism=contract.SaslMechanism(login.mechanism),
        token_url=login.token_url,
        ca=authority,
        scopes=login.scopes,
        grant=grant,
    )


def _grant(facts: RelayFacts, name: str, login: OAuth2) -> contract.Grant | Trouble:
    if login.flow == "Federated":
        return _federated(facts, name, login)
    secret = secret_text(facts, name, login.client_secret_ref)
    if isinstance(secret, Trouble):
        return replace(secret, path="clientSecretRef")
    if login.flow == "ClientCredentials":
        return contract.ClientCredentials(client_id=login.client_id or "", client_secret=secret)
    if login.flow == "RefreshToken":
        token = secret_text(facts, name, login.refresh_token_ref)
        if isinstance(token, Trouble):
            return replace(token, path="refreshTokenRef")
        return contract.RefreshToken(
            client_id=login.client_id or "", client_secret=secret, refresh_token=token
        )
    return _service_account_key(facts, name, login)


def _federated(facts: RelayFacts, name: str, login: OAuth2) -> contract.Federated | Trouble:
    audience = login.effective_audience
    trouble = audience_trouble(facts, name, audience)
    if trouble is not None:
        return replace(trouble, path="audience")
    return contract.Federated(client_id=login.client_id or "", audience=audience)


def _service_account_key(
    facts: RelayFacts, name: str, login: OAuth2
) -> contract.ServiceAccountKey | Trouble:
    reference = login.service_account_key_ref
    text = secret_text(facts, name, reference)
    if isinstance(text, Trouble):
        return replace(text, path="serviceAccountKeyRef")
    assert reference is not None
    try:
        found = json.loads(text)
        issuer, key = found["client_email"], found["private_key"]
        key_id = found.get("private_key_id", "")
        usable = all(isinstance(one, str) for one in (issuer, key, key_id))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        usable = False
    if not usable:
        return Trouble(
            reason=Reason.SECRET_INVALID,
            message=f"{secret_of(facts, name, reference)} has a {reference.key} that is not the"
            " JSON key of a Google service account, with client_email and private_key.",
            path="serviceAccountKeyRef",
        )
    return contract.ServiceAccountKey(issuer=issuer, key_id=key_id, key=key)
