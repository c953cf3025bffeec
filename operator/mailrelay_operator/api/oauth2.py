"""The login at a smarthost by OAuth2: where access tokens come from, and what is shown for
them. Pure.

The gateway fetches and renews them; a password is never tried in their place.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mailrelay_operator.api.grammar import HttpsUrl
from mailrelay_operator.api.metadata import SecretKeyRef, TrustRef
from mailrelay_operator.api.shape import ATOMIC, Struct, matching, rule

#: What Microsoft Entra ID expects of workload identities; other providers name their own.
DEFAULT_AUDIENCE = "api://AzureADTokenExchange"
#: How the audiences begin by which pods speak to the API server, and to mailrelay itself.
FORBIDDEN_AUDIENCES = ("mailrelay.dev/", "https://kubernetes.default", "kubernetes.default")

#: RFC 6749 section 3.3.
OAuthScope = Annotated[
    str,
    Field(min_length=1, max_length=256),
    matching(r"[!#-\[\]-~]+", "A scope is printable ASCII without spaces, quotes and backslashes."),
]

#: What a token is for. Those by which pods speak to the API server or to mailrelay itself would let
#: whoever runs the endpoint do the same.
Audience = Annotated[
    str,
    Field(min_length=1, max_length=253),
    matching(
        r"[A-Za-z0-9][A-Za-z0-9._~:/?#@!$&*+;=%-]*",
        "An audience is a name or a URI without spaces.",
    ),
]


class OAuth2(Struct):
    """A login with tokens (XOAUTH2, OAUTHBEARER), fetched and renewed by the gateway."""

    username: str = Field(
        min_length=1, max_length=320, description="The mailbox or user that logs in."
    )
    mechanism: Literal["XOAUTH2", "OAUTHBEARER"] = Field(
        "XOAUTH2",
        description="SASL mechanism; OAUTHBEARER is RFC 7628, XOAUTH2 its older form at Google and"
        " Microsoft.",
    )
    flow: Literal["ClientCredentials", "RefreshToken", "Federated", "ServiceAccountKey"] = Field(
        description="How tokens are got. ClientCredentials: with the application's own secret."
        " RefreshToken: with a refresh token of the user. Federated: without any secret, with the"
        " pod's ServiceAccount token as client_assertion (RFC 7523). ServiceAccountKey: with an"
        " assertion signed with the key of a Google service account, in the name of `username`."
    )
    token_url: HttpsUrl = Field(
        description="Where tokens are fetched. An address that is not public has to be inside the"
        " chart's allowedEgressCIDRs."
    )
    token_ca_ref: TrustRef | None = Field(
        None,
        description="CA certificates to trust at the token endpoint instead of the system's, in a"
        " Secret or ConfigMap.",
    )
    client_id: str | None = Field(
        None,
        min_length=1,
        max_length=256,
        description="The application's client ID. Needed for all flows but ServiceAccountKey.",
    )
    scopes: tuple[OAuthScope, ...] = Field(
        (),
        max_length=16,
        description="Scopes to ask for, each without spaces.",
        json_schema_extra=ATOMIC,
    )
    client_secret_ref: SecretKeyRef | None = Field(
        None,
        description="The application's secret. Needed for ClientCredentials. The Secret, like"
        ' those below, is labelled mailrelay.dev/credentials: "true" by whoever may lend it to'
        " this relay.",
    )
    refresh_token_ref: SecretKeyRef | None = Field(
        None,
        description="The user's refresh token. Needed for RefreshToken. Where the provider replaces"
        " it, the newest is kept in the queue's volume.",
    )
    service_account_key_ref: SecretKeyRef | None = Field(
        None,
        description="The JSON key of a Google service account with domain-wide delegation. Needed"
        " for ServiceAccountKey.",
    )
    audience: Audience | None = Field(
        None,
        description="Audience of the pod's token in the flow Federated, one of the chart's"
        f" tokenAudiences. Left out: {DEFAULT_AUDIENCE}. A change restarts the pods.",
    )

    @rule(
        "self.flow != 'ClientCredentials' || has(self.clientSecretRef)",
        "The flow ClientCredentials needs clientSecretRef.",
        field="flow",
    )
    def has_a_client_secret(self) -> bool:
        """Make sure the flow can fetch a token."""
        return self.flow != "ClientCredentials" or self.client_secret_ref is not None

    @rule(
        "self.flow in ['ClientCredentials', 'RefreshToken'] || !has(self.clientSecretRef)",
        "Only the flows ClientCredentials and RefreshToken take clientSecretRef.",
        field="flow",
    )
    def has_no_client_secret_in_vain(self) -> bool:
        """Make sure nobody takes a secret for used that is not."""
        takes = self.flow in {"ClientCredentials", "RefreshToken"}
        return takes or self.client_secret_ref is None

    @rule(
        "(self.flow == 'RefreshToken') == has(self.refreshTokenRef)",
        "The flow RefreshToken, and only that one, needs refreshTokenRef.",
        field="flow",
    )
    def has_a_refresh_token(self) -> bool:
        """Make sure the flow can fetch a token, and that a refresh token is not given in vain."""
        return (self.flow == "RefreshToken") == (self.refresh_token_ref is not None)

    @rule(
        "(self.flow == 'ServiceAccountKey') == has(self.serviceAccountKeyRef)",
        "The flow ServiceAccountKey, and only that one, needs serviceAccountKeyRef.",
        field="flow",
    )
    def has_a_service_account_key(self) -> bool:
        """Make sure the flow can fetch a token, and that a key is not given in vain."""
        return (self.flow == "ServiceAccountKey") == (self.service_account_key_ref is not None)

    @rule(
        "(self.flow == 'ServiceAccountKey') != has(self.clientID)",
        "All flows but ServiceAccountKey, whose key says it, need clientID.",
        field="flow",
    )
    def has_a_client(self) -> bool:
        """Make sure the endpoint is told who asks."""
        return (self.flow == "ServiceAccountKey") != (self.client_id is not None)

    @rule(
        "self.flow == 'Federated' || !has(self.audience)",
        "Only the flow Federated has an audience.",
        field="flow",
    )
    def has_an_audience_only_when_federated(self) -> bool:
        """Make sure that no token is mounted in vain."""
        return self.flow == "Federated" or self.audience is None

    @rule(
        "!has(self.audience) || !(self.audience.startsWith('mailrelay.dev/') ||"
        " self.audience.startsWith('https://kubernetes.default') ||"
        " self.audience.startsWith('kubernetes.default'))",
        "A token for the API server or for mailrelay itself is never shown to an endpoint.",
        field="audience",
    )
    def has_an_audience_of_somebody_else(self) -> bool:
        """Make sure that the endpoint cannot use the pod's token against the cluster."""
        return self.audience is None or not self.audience.startswith(FORBIDDEN_AUDIENCES)

    @property
    def effective_audience(self) -> str:
        """The audience of the pod's token; empty: the flow shows none."""
        if self.flow != "Federated":
            return ""
        return self.audience or DEFAULT_AUDIENCE
