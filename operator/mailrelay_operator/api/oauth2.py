"""The OAuth2 login at a smarthost: where access tokens come from, and how they are requested. Pure.

The gateway fetches and renews them; it never falls back to a password.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mailrelay_operator.api.grammar import HttpsUrl
from mailrelay_operator.api.metadata import SecretKeyRef, TrustRef
from mailrelay_operator.api.shape import ATOMIC, Struct, TextRule, matching, rule

#: The audience that Microsoft Entra ID expects of workload identities; other providers define
#: theirs.
DEFAULT_AUDIENCE = "api://AzureADTokenExchange"
#: Prefixes of the audiences of the API server and of mailrelay itself.
FORBIDDEN_AUDIENCES = ("mailrelay.dev/", "https://kubernetes.default", "kubernetes.default")

#: RFC 6749 section 3.3.
OAuthScope = Annotated[
    str,
    Field(min_length=1, max_length=256),
    matching(
        r"[!#-\[\]-~]+", "A scope must be printable ASCII without spaces, quotes and backslashes."
    ),
]

#: The audience of a token. With an audience of the API server or of mailrelay itself, the operator
#: of the endpoint could use the token there.
Audience = Annotated[
    str,
    Field(min_length=1, max_length=253),
    matching(
        r"[A-Za-z0-9][A-Za-z0-9._~:/?#@!$&*+;=%-]*",
        "An audience must be a name or a URI without spaces.",
    ),
    TextRule(
        cel=f"!({' || '.join(f'self.startsWith({one!r})' for one in FORBIDDEN_AUDIENCES)})",
        message="audience must not be that of the API server or of mailrelay itself.",
        holds=lambda audience: not audience.startswith(FORBIDDEN_AUDIENCES),
    ),
]


class OAuth2(Struct):
    """A login with access tokens (XOAUTH2, OAUTHBEARER), fetched and renewed by the gateway."""

    username: str = Field(
        min_length=1, max_length=320, description="The mailbox or user that logs in."
    )
    mechanism: Literal["XOAUTH2", "OAUTHBEARER"] = Field(
        "XOAUTH2",
        description="SASL mechanism: OAUTHBEARER (RFC 7628) or its predecessor XOAUTH2 of Google"
        " and"
        " Microsoft.",
    )
    flow: Literal["ClientCredentials", "RefreshToken", "Federated", "ServiceAccountKey"] = Field(
        description="How tokens are obtained. ClientCredentials: with the application's own secret."
        " RefreshToken: with a refresh token of the user. Federated: without a secret, with the"
        " pod's ServiceAccount token as client_assertion (RFC 7523). ServiceAccountKey: with an"
        " assertion signed with the key of a Google service account, on behalf of `username`."
    )
    token_url: HttpsUrl = Field(
        description="URL of the token endpoint. An address that is not public must be inside the"
        " chart's allowedEgressCIDRs."
    )
    token_ca_ref: TrustRef | None = Field(
        None,
        description="Secret or ConfigMap with CA certificates to trust at the token endpoint"
        " instead"
        " of the system's.",
    )
    client_id: str | None = Field(
        None,
        min_length=1,
        max_length=256,
        description="The application's client ID. Required for all flows except ServiceAccountKey.",
    )
    scopes: tuple[OAuthScope, ...] = Field(
        (),
        max_length=16,
        description="Scopes to request.",
        json_schema_extra=ATOMIC,
    )
    client_secret_ref: SecretKeyRef | None = Field(
        None,
        description="The application's secret. Required for ClientCredentials. The Secret, like"
        ' those below, needs the label mailrelay.dev/credentials: "true", by which its owner'
        " permits its use.",
    )
    refresh_token_ref: SecretKeyRef | None = Field(
        None,
        description="The user's refresh token. Required for RefreshToken. If the provider replaces"
        " it, the newest is kept on the queue's volume.",
    )
    service_account_key_ref: SecretKeyRef | None = Field(
        None,
        description="The JSON key of a Google service account with domain-wide delegation. Required"
        " for ServiceAccountKey.",
    )
    audience: Audience | None = Field(
        None,
        description="Audience of the pod's token in the flow Federated, one of the chart's"
        f" tokenAudiences. Default: {DEFAULT_AUDIENCE}. A change restarts the pods.",
    )

    @rule(
        "self.flow != 'ClientCredentials' || has(self.clientSecretRef)",
        "The flow ClientCredentials requires clientSecretRef.",
        field="flow",
    )
    def has_a_client_secret(self) -> bool:
        """Make sure the flow can fetch a token."""
        return self.flow != "ClientCredentials" or self.client_secret_ref is not None

    @rule(
        "self.flow in ['ClientCredentials', 'RefreshToken'] || !has(self.clientSecretRef)",
        "clientSecretRef is allowed only with the flows ClientCredentials and RefreshToken.",
        field="flow",
    )
    def has_no_client_secret_in_vain(self) -> bool:
        """Make sure a secret is not ignored."""
        takes = self.flow in {"ClientCredentials", "RefreshToken"}
        return takes or self.client_secret_ref is None

    @rule(
        "(self.flow == 'RefreshToken') == has(self.refreshTokenRef)",
        "refreshTokenRef is required with the flow RefreshToken, and allowed only with it.",
        field="flow",
    )
    def has_a_refresh_token(self) -> bool:
        """Make sure the flow can fetch a token, and that a refresh token is not ignored."""
        return (self.flow == "RefreshToken") == (self.refresh_token_ref is not None)

    @rule(
        "(self.flow == 'ServiceAccountKey') == has(self.serviceAccountKeyRef)",
        "serviceAccountKeyRef is required with the flow ServiceAccountKey, and allowed only with"
        " it.",
        field="flow",
    )
    def has_a_service_account_key(self) -> bool:
        """Make sure the flow can fetch a token, and that a key is not ignored."""
        return (self.flow == "ServiceAccountKey") == (self.service_account_key_ref is not None)

    @rule(
        "(self.flow == 'ServiceAccountKey') != has(self.clientID)",
        "clientID is required, except with the flow ServiceAccountKey, whose key contains it.",
        field="flow",
    )
    def has_a_client(self) -> bool:
        """Make sure the request identifies the client."""
        return (self.flow == "ServiceAccountKey") != (self.client_id is not None)

    @rule(
        "self.flow == 'Federated' || !has(self.audience)",
        "audience is allowed only with the flow Federated.",
        field="flow",
    )
    def has_an_audience_only_when_federated(self) -> bool:
        """Make sure that an audience is not ignored."""
        return self.flow == "Federated" or self.audience is None

    @property
    def effective_audience(self) -> str:
        """The audience of the pod's token; empty if the flow sends none."""
        if self.flow != "Federated":
            return ""
        return self.audience or DEFAULT_AUDIENCE
