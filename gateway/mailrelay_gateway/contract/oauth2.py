"""The contract's OAuth2 login: where access tokens are fetched, and with which grant. Pure.

Documents never contain access tokens: the gateway fetches them and keeps them in memory.
"""

from __future__ import annotations

import hashlib
import re
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from mailrelay_gateway.contract.part import ByKind, Part, UnknownKind

#: The folder of a pod's ServiceAccount tokens, one file per audience.
TOKENS_FOLDER = "/var/run/secrets/mailrelay/tokens"


class SaslMechanism(StrEnum):
    """The SASL mechanism for an access token."""

    XOAUTH2 = "XOAUTH2"
    OAUTHBEARER = "OAUTHBEARER"  # RFC 7628


class ClientCredentials(Part):
    """RFC 6749 section 4.4: the application's own secret."""

    kind: Literal["clientCredentials"] = "clientCredentials"
    client_id: str
    client_secret: str = Field(repr=False)


class RefreshToken(Part):
    """RFC 6749 section 6: a refresh token of the user; the secret of a public client is empty."""

    kind: Literal["refreshToken"] = "refreshToken"
    client_id: str
    client_secret: str = Field(repr=False)
    refresh_token: str = Field(repr=False)


class Federated(Part):
    """RFC 7523 section 2.2: the pod's ServiceAccount token with this audience is the client's
    assertion. Its file in the gateway's token folder is `token_file_name`.
    """

    kind: Literal["federated"] = "federated"
    client_id: str
    audience: str


class ServiceAccountKey(Part):
    """RFC 7523 section 2.1, as used by Google: an assertion signed with the key (PEM) of a service
    account, on behalf of the user that logs in.
    """

    kind: Literal["serviceAccountKey"] = "serviceAccountKey"
    issuer: str
    key_id: str
    key: str = Field(repr=False)


#: The grant for the token endpoint.
Grant = Annotated[
    ClientCredentials | RefreshToken | Federated | ServiceAccountKey | UnknownKind, ByKind()
]


class OAuth2(Part):
    """AUTH with an access token. `ca` is a PEM bundle for the token endpoint that replaces the
    system's.
    """

    kind: Literal["oauth2"] = "oauth2"
    username: str
    mechanism: SaslMechanism
    token_url: str
    ca: str | None
    scopes: tuple[str, ...]
    grant: Grant


def token_file_name(audience: str) -> str:
    """The name of the file with the ServiceAccount token for this audience: readable, and unique to
    the audience.
    """
    readable = re.sub(r"[^A-Za-z0-9.]+", "-", audience).strip("-.")[:40]
    return f"{readable}-{hashlib.sha256(audience.encode()).hexdigest()[:8]}"
