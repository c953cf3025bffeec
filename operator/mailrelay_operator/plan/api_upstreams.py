"""API upstreams of a MailRelay: resolves their references into the contract's settings. Pure.

The owner of each Secret must have marked it as credentials, since its content is sent to a URL in
the MailRelay, or used to sign for one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from mailrelay_gateway.contract import api_upstreams as contract
from mailrelay_gateway.contract import oauth2
from mailrelay_operator.api.api_upstreams import (
    ACCESS_KEY_ID,
    SECRET_ACCESS_KEY,
    Api,
    Graph,
    Ses,
)
from mailrelay_operator.api.metadata import SecretKeyRef
from mailrelay_operator.plan.facts import ObjectKey, RelayFacts
from mailrelay_operator.plan.referred import audience_trouble, secret_text, trusted_bundle
from mailrelay_operator.plan.verdicts import Trouble

#: What applications ask Graph for: whatever was granted to them.
_SCOPE = "/.default"


def api_references(api: Api, namespace: str) -> Iterator[ObjectKey]:
    """Every object that the upstream refers to."""
    service = api.ses or api.graph
    assert service is not None  # a rule of the API
    secret = service.credentials.secret_ref
    if secret is not None:
        yield ObjectKey(kind="Secret", namespace=namespace, name=secret.name)
    if service.ca_ref is not None:
        yield ObjectKey(kind=service.ca_ref.kind, namespace=namespace, name=service.ca_ref.name)


def api_settings(facts: RelayFacts, name: str, api: Api) -> contract.Api | Trouble:
    """The settings of the upstream `name` for the gateway, or what is wrong with a reference; its
    path is below `api`.
    """
    service = api.ses or api.graph
    assert service is not None
    kind = "ses" if isinstance(service, Ses) else "graph"
    authority: str | Trouble | None = None
    if service.ca_ref is not None:
        authority = trusted_bundle(facts, service.ca_ref, of=f"upstream {name}")
    if isinstance(authority, Trouble):
        return replace(authority, path=f"{kind}.caRef")
    found = (
        _ses(facts, name, service, authority)
        if isinstance(service, Ses)
        else _graph(facts, name, service, authority)
    )
    if isinstance(found, Trouble):
        return replace(found, path=f"{kind}.credentials.{found.path}")
    return contract.Api(service=found)


def _ses(facts: RelayFacts, name: str, ses: Ses, authority: str | None) -> contract.Ses | Trouble:
    given = ses.credentials
    credentials: contract.AccessKey | contract.WebIdentity
    if given.web_identity is not None:
        trouble = audience_trouble(facts, name, given.web_identity.audience)
        if trouble is not None:
            return replace(trouble, path="webIdentity.audience")
        credentials = contract.WebIdentity(
            role_arn=given.web_identity.role_arn,
            audience=given.web_identity.audience,
            sts_url=given.web_identity.sts_endpoint
            or f"https://sts.{ses.region}.{_domain(ses.region)}/",
        )
    else:
        assert given.secret_ref is not None  # a rule of the API
        values = []
        for key in (ACCESS_KEY_ID, SECRET_ACCESS_KEY):
            reference = SecretKeyRef(name=given.secret_ref.name, key=key)
            value = secret_text(facts, name, reference)
            if isinstance(value, Trouble):
                return replace(value, path="secretRef")
            values.append(value)
        credentials = contract.AccessKey(
            access_key_id=values[0], secret_access_key=values[1], session_token=""
        )
    return contract.Ses(
        url=ses.endpoint or f"https://email.{ses.region}.{_domain(ses.region)}",
        region=ses.region,
        ca=authority,
        credentials=credentials,
        configuration_set=ses.configuration_set or "",
        tenant=ses.tenant or "",
    )


def _graph(
    facts: RelayFacts, name: str, graph: Graph, authority: str | None
) -> contract.Graph | Trouble:
    given = graph.credentials
    grant: oauth2.ClientCredentials | oauth2.Federated
    if given.federated is not None:
        trouble = audience_trouble(facts, name, given.federated.audience)
        if trouble is not None:
            return replace(trouble, path="federated.audience")
        grant = oauth2.Federated(client_id=graph.client_id, audience=given.federated.audience)
    else:
        secret = secret_text(facts, name, given.secret_ref)
        if isinstance(secret, Trouble):
            return replace(secret, path="secretRef")
        grant = oauth2.ClientCredentials(client_id=graph.client_id, client_secret=secret)
    endpoint = graph.endpoint.rstrip("/")
    return contract.Graph(
        url=endpoint,
        ca=authority,
        mailbox=graph.mailbox,
        login=oauth2.OAuth2(
            username=graph.mailbox,
            mechanism=oauth2.SaslMechanism.XOAUTH2,
            token_url=f"{graph.login_endpoint.rstrip('/')}/{graph.tenant_id}/oauth2/v2.0/token",
            ca=authority,
            scopes=(f"{endpoint}{_SCOPE}",),
            grant=grant,
        ),
        rewrite_recipients=graph.rewrite_recipients,
    )


def _domain(region: str) -> str:
    return "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
