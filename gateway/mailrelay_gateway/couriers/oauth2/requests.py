"""Builds the request to a token endpoint, by kind of grant. Pure: time, ids and the pod's token are
arguments.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from urllib.parse import urlencode

from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from mailrelay_gateway.contract.documents import UnknownKind
from mailrelay_gateway.contract.oauth2 import (
    ClientCredentials,
    Federated,
    OAuth2,
    RefreshToken,
    ServiceAccountKey,
)

#: RFC 7523 section 2.2 and 2.1.
CLIENT_ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
#: Seconds. Google accepts assertions of at most an hour, and none from the future, so `iat` is
#: slightly in the past.
ASSERTION_LIFE = 3000
ASSERTION_BACKDATED = 60

HEADERS: Mapping[str, str] = {
    "Accept": "application/json",
    "Content-Type": "application/x-www-form-urlencoded",
}


class UnusableGrant(ValueError):
    """The configured grant is unusable; the message says why, without secrets."""


def request_body(
    settings: OAuth2, *, now: float, refresh_token: str = "", own_token: str = ""
) -> bytes:
    """The form to post. `refresh_token` is the newest one and `own_token` the pod's, each for its
    kind of grant; `now` is Unix seconds by the endpoint's clock, as far as known.
    """
    return urlencode(_fields(settings, now, refresh_token, own_token)).encode()


def secrets_of(settings: OAuth2, *others: str) -> tuple[str, ...]:
    """The secrets to remove from messages, in case the endpoint repeats them."""
    grant = settings.grant
    match grant:
        case ClientCredentials():
            found = (grant.client_secret, *others)
        case RefreshToken():
            found = (grant.client_secret, grant.refresh_token, *others)
        case _:
            found = others
    return tuple(secret for secret in found if secret)


def _fields(settings: OAuth2, now: float, refresh_token: str, own_token: str) -> Mapping[str, str]:
    grant = settings.grant
    scope = {"scope": " ".join(settings.scopes)} if settings.scopes else {}
    match grant:
        case ClientCredentials():
            return {
                "grant_type": "client_credentials",
                "client_id": grant.client_id,
                "client_secret": grant.client_secret,
                **scope,
            }
        case RefreshToken():
            secret = {"client_secret": grant.client_secret} if grant.client_secret else {}
            return {
                "grant_type": "refresh_token",
                "client_id": grant.client_id,
                **secret,
                "refresh_token": refresh_token or grant.refresh_token,
                **scope,
            }
        case Federated():
            return {
                "grant_type": "client_credentials",
                "client_id": grant.client_id,
                "client_assertion_type": CLIENT_ASSERTION,
                "client_assertion": own_token,
                **scope,
            }
        case ServiceAccountKey():
            return {"grant_type": JWT_BEARER, "assertion": _assertion(settings, grant, now)}
        case UnknownKind():
            # Whoever makes a source looks at this first.
            raise UnusableGrant(f"the login is of the unknown kind {grant.kind!r}")


def _assertion(settings: OAuth2, grant: ServiceAccountKey, now: float) -> str:
    """A JWT (RFC 7519) on behalf of the user, signed with RS256."""
    issued = int(now) - ASSERTION_BACKDATED
    header = {"alg": "RS256", "typ": "JWT"} | ({"kid": grant.key_id} if grant.key_id else {})
    claims = {
        "iss": grant.issuer,
        "sub": settings.username,
        "aud": settings.token_url,
        "scope": " ".join(settings.scopes),
        "iat": issued,
        "exp": issued + ASSERTION_LIFE,
    }
    signed = f"{_part(header)}.{_part(claims)}"
    try:
        key = load_pem_private_key(grant.key.encode(), password=None)
    except (ValueError, TypeError):
        raise UnusableGrant("the service account's private_key is not a PEM private key") from None
    if not isinstance(key, RSAPrivateKey):
        raise UnusableGrant("the service account's private_key is not an RSA key")
    signature = key.sign(signed.encode(), PKCS1v15(), SHA256())
    return f"{signed}.{_encoded(signature)}"


def _part(value: Mapping[str, object]) -> str:
    return _encoded(json.dumps(value, separators=(",", ":")).encode())


def _encoded(octets: bytes) -> str:
    return urlsafe_b64encode(octets).rstrip(b"=").decode()
