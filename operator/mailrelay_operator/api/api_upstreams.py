"""Upstreams that take mail over HTTPS: Amazon SES and Microsoft Graph, for networks in which SMTP's
ports are closed, and for credentials that are no secrets. Pure.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from mailrelay_operator.api.grammar import HttpsUrl
from mailrelay_operator.api.metadata import NamedRef, SecretKeyRef, TrustRef
from mailrelay_operator.api.oauth2 import DEFAULT_AUDIENCE, Audience
from mailrelay_operator.api.shape import Struct, matching, rule

#: The audience that AWS's STS expects of web identities.
AWS_AUDIENCE = "sts.amazonaws.com"
#: Keys of a Secret with an AWS access key.
ACCESS_KEY_ID, SECRET_ACCESS_KEY = "accessKeyID", "secretAccessKey"

Region = Annotated[
    str,
    Field(min_length=1, max_length=32),
    matching(r"[a-z]{2}(-[a-z]+)+-[0-9]+", "A region looks like eu-central-1."),
]
RoleARN = Annotated[
    str,
    Field(min_length=20, max_length=2048),
    matching(
        r"arn:aws[a-z-]*:iam::[0-9]{12}:role/[!-~]+",
        "A role's ARN looks like arn:aws:iam::111122223333:role/NAME.",
    ),
]
#: What SES takes as the name of a configuration set or a tenant.
SesName = Annotated[
    str,
    Field(min_length=1, max_length=64),
    matching(r"[A-Za-z0-9_-]+", "Letters, digits, - and _ only."),
]
TenantID = Annotated[
    str,
    Field(min_length=1, max_length=253),
    matching(r"[A-Za-z0-9.-]+", "A directory (tenant) ID is a GUID or a domain."),
]


class WebIdentity(Struct):
    """Temporary keys from AWS's STS for the pod's own ServiceAccount token: no secret anywhere."""

    role_arn: RoleARN = Field(
        description="Role to assume. Its trust policy must name the cluster's issuer, the audience"
        " and the relay's ServiceAccount.",
    )
    audience: Audience = Field(
        AWS_AUDIENCE,
        description="Audience of the token, one of the chart's tokenAudiences. A change restarts"
        " the pods.",
    )
    sts_endpoint: HttpsUrl | None = Field(
        None, description="URL of STS. Default: that of the region."
    )


class SesCredentials(Struct):
    """How SES knows the relay; exactly one of its fields."""

    web_identity: WebIdentity | None = Field(
        None, description="Temporary keys for the pod's token."
    )
    secret_ref: NamedRef | None = Field(
        None,
        description=f"Secret with the keys {ACCESS_KEY_ID} and {SECRET_ACCESS_KEY} (AWS keys, not"
        ' SES\'s SMTP password), and the label mailrelay.dev/credentials: "true", by which its'
        " owner permits its use.",
    )

    @rule(
        "has(self.webIdentity) != has(self.secretRef)",
        "Set exactly one of webIdentity and secretRef.",
    )
    def is_exactly_one(self) -> bool:
        """Make sure that there is one, with no silent fallback."""
        return (self.web_identity is None) != (self.secret_ref is None)


class Ses(Struct):
    """SendEmail of the SES API v2. The role or user needs ses:SendRawEmail and ses:SendEmail."""

    region: Region = Field(description="Region of the identities, such as eu-central-1.")
    endpoint: HttpsUrl | None = Field(
        None,
        description="URL of the API, such as that of a VPC endpoint. Default: that of the region.",
    )
    ca_ref: TrustRef | None = Field(
        None,
        description="Secret or ConfigMap with CA certificates to trust instead of the system's.",
    )
    credentials: SesCredentials = Field(description="How SES knows the relay.")
    configuration_set: SesName | None = Field(
        None, description="Configuration set of all mail. Default: the identity's."
    )
    tenant: SesName | None = Field(None, description="SES tenant of all mail.")


class GraphFederated(Struct):
    """The pod's own ServiceAccount token instead of a client secret (RFC 7523)."""

    audience: Audience = Field(
        DEFAULT_AUDIENCE,
        description="Audience of the token, one of the chart's tokenAudiences. A change restarts"
        " the pods.",
    )


class GraphCredentials(Struct):
    """How Microsoft Entra ID knows the application; exactly one of its fields."""

    federated: GraphFederated | None = Field(None, description="With the pod's token.")
    secret_ref: SecretKeyRef | None = Field(
        None,
        description="The application's client secret. The Secret needs the label"
        ' mailrelay.dev/credentials: "true", by which its owner permits its use.',
    )

    @rule(
        "has(self.federated) != has(self.secretRef)", "Set exactly one of federated and secretRef."
    )
    def is_exactly_one(self) -> bool:
        """Make sure that there is one, with no silent fallback."""
        return (self.federated is None) != (self.secret_ref is None)


class Graph(Struct):
    """sendMail of Microsoft Graph. The application needs Mail.Send, restricted to the mailbox."""

    tenant_id: TenantID = Field(description="Directory (tenant) ID.")
    client_id: str = Field(min_length=1, max_length=256, description="The application's client ID.")
    credentials: GraphCredentials = Field(description="How Entra ID knows the application.")
    mailbox: str = Field(
        min_length=3, max_length=320, description="The mailbox that sends, by its address or ID."
    )
    rewrite_recipients: bool = Field(
        False,
        description="Graph sends to whoever the header names. True: To and Cc are reduced to the"
        " recipients of the envelope. False: a message whose header names somebody else takes"
        " another upstream of its route, or fails (EnvelopeMismatch). Recipients only in the"
        " envelope become Bcc in both cases.",
    )
    endpoint: HttpsUrl = Field(
        "https://graph.microsoft.com", description="URL of Graph, for national clouds."
    )
    login_endpoint: HttpsUrl = Field(
        "https://login.microsoftonline.com", description="URL of Entra ID, for national clouds."
    )
    ca_ref: TrustRef | None = Field(
        None,
        description="Secret or ConfigMap with CA certificates to trust at both instead of the"
        " system's.",
    )


class Api(Struct):
    """A provider's HTTPS API; exactly one of its fields."""

    ses: Ses | None = Field(None, description="Amazon SES, API v2.")
    graph: Graph | None = Field(None, description="Microsoft Graph (Exchange Online).")

    @rule("has(self.ses) != has(self.graph)", "Set exactly one of ses and graph.")
    def is_exactly_one(self) -> bool:
        """Make sure that there is one provider."""
        return (self.ses is None) != (self.graph is None)

    @property
    def audience(self) -> str:
        """The audience of the pod's token; empty if none is needed."""
        if self.ses is not None and self.ses.credentials.web_identity is not None:
            return self.ses.credentials.web_identity.audience
        if self.graph is not None and self.graph.credentials.federated is not None:
            return self.graph.credentials.federated.audience
        return ""
