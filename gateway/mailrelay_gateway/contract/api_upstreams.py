"""The contract's API upstreams: providers that take mail over HTTPS. Pure."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mailrelay_gateway.contract.oauth2 import OAuth2
from mailrelay_gateway.contract.part import ByKind, Part, UnknownKind


class AccessKey(Part):
    """A static access key of AWS; `session_token` is empty for a permanent one."""

    kind: Literal["accessKey"] = "accessKey"
    access_key_id: str
    secret_access_key: str = Field(repr=False)
    session_token: str = Field(repr=False)


class WebIdentity(Part):
    """AssumeRoleWithWebIdentity of AWS's STS at `sts_url`: the pod's ServiceAccount token with this
    audience is exchanged for temporary keys. The token's file is `oauth2.token_file_name`.
    """

    kind: Literal["webIdentity"] = "webIdentity"
    role_arn: str
    audience: str
    sts_url: str


class Ses(Part):
    """SendEmail of the SES API v2 at `url`. An empty `configuration_set` or `tenant` is not
    sent. `ca` is a PEM bundle that replaces the system's for both URLs.
    """

    kind: Literal["ses"] = "ses"
    url: str
    region: str
    ca: str | None
    credentials: Annotated[AccessKey | WebIdentity | UnknownKind, ByKind()]
    configuration_set: str
    tenant: str


class Graph(Part):
    """sendMail of Microsoft Graph at `url`, as the user `mailbox`. `rewrite_recipients`: make the
    header's recipients equal to the envelope's. `ca` is a PEM bundle that replaces the system's.
    """

    kind: Literal["graph"] = "graph"
    url: str
    ca: str | None
    mailbox: str
    login: OAuth2  # its username and mechanism are not used
    rewrite_recipients: bool


class Api(Part):
    """A provider's HTTPS API."""

    kind: Literal["api"] = "api"
    service: Annotated[Ses | Graph | UnknownKind, ByKind()]
