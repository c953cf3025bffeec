"""The contract's login by OAuth2: where access tokens are fetched, and what is shown for them.
Pure.

Access tokens themselves never stand in a document: the gateway fetches them and keeps them in
memory.
"""

from __future__ import annotations

import hashlib
import re
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from mailrelay_gateway.contract.part import ByKind, Part, UnknownKind

#: Where a pod has its ServiceAccount tokens, a file for each audience.
TOKENS_FOLDER = "/var/run/secrets/mailrelay/tokens"


class SaslMechanism(StrEnum):
    """How an access token is shown to the upstream."""

    XOAUTH2 = "XOAUTH2"
    OAUTHBEARER = "OAUTHBEARER"  # RFC 7628


class ClientCredentials(Part):
    """RFC 6749 section 4.4: the application's own secret."""

    kind: Literal["clientCredentials"] = "clientCredentials"
    client_id: str
    client_secret: str = Field(repr=False)


class RefreshToken(Part):
    """RFC 6749 section 6: a refresh token of the user; public clients have no secret (empty)."""

    kind: Literal["refreshToken"] = "refreshToken"
    client_id: str
    client_secret: str = Field(repr=False)
    refresh_token: str = Field(repr=False)


class Federated(Part):
    """RFC 7523 section 2.2: the pod's own ServiceAccount token, of this audience, is the client's
    assertion. It lies in the gateway's folder of tokens as `token_file_name` says.
    """

    kind: Literal["federated"] = "federated"
    client_id: str
    audience: str


class ServiceAccountKey(Part):
    """RFC 7523 section 2.1, as Google has it: an assertion signed with the key (PEM) of a service
    account, in the name of the user that logs in.
    """

    kind: Literal["serviceAccountKey"] = "serviceAccountKey"
    issuer: str
    key_id: str
    key: str = Field(repr=False)


#: What is shown at the token endpoint.
Grant = Annotated[
    ClientCredentials | RefreshToken | Federated | ServiceAccountKey | UnknownKind, ByKind()
]


class OAuth2(Part):
    """AUTH with an access token. `ca` is a PEM bundle to trust at the token endpoint instead of the
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
    """The file with the ServiceAccount token of this audience, within the folder of tokens: one
    that a person recognises, and no other audience has.
    """
    readable = re.sub(r"[^A-Za-z0-9.]+", "-", audience).strip("-.")[:40]
    return f"{readable}-{hashlib.sha256(audience.encode()).hexdigest()[:8]}"
