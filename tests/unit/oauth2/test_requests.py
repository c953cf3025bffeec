"""What is posted for each kind of grant, and that nothing of it is ever shown."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qsl

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.hashes import SHA256

from mailrelay_gateway.contract import oauth2
from mailrelay_gateway.contract.documents import Smarthost
from mailrelay_gateway.contract.oauth2 import OAuth2, SaslMechanism, token_file_name
from mailrelay_gateway.couriers.oauth2.requests import UnusableGrant, request_body, secrets_of
from tests.models import made
from tests.peers.odd_certificates import KEYS, RSA_2048
from tests.peers.token_endpoint import _decoded


def settings(grant: Any) -> OAuth2:
    return OAuth2(
        username="robot@example.com",
        mechanism=SaslMechanism.XOAUTH2,
        token_url="https://login.example.com/token",
        ca=None,
        scopes=("one", "two"),
        grant=grant,
    )


SECRET = settings(oauth2.ClientCredentials(client_id="id", client_secret="s3cret&="))
REFRESH = settings(oauth2.RefreshToken(client_id="id", client_secret="", refresh_token="given"))
FEDERATED = settings(oauth2.Federated(client_id="id", audience="api://x"))


def pem(key: Any) -> str:
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return str(key.private_bytes(encoding, form, serialization.NoEncryption()).decode())


def google(key: str) -> OAuth2:
    grant = oauth2.ServiceAccountKey(issuer="sa@project.iam", key_id="k1", key=key)
    return settings(grant)


def form(which: OAuth2, **more: str) -> dict[str, str]:
    return dict(parse_qsl(request_body(which, now=1_000_000.0, **more).decode()))


def test_client_credentials() -> None:
    assert form(SECRET) == {
        "grant_type": "client_credentials",
        "client_id": "id",
        "client_secret": "s3cret&=",
        "scope": "one two",
    }


def test_a_refresh_token_and_the_one_that_replaced_it() -> None:
    assert form(REFRESH) == {
        "grant_type": "refresh_token",
        "client_id": "id",
        "refresh_token": "given",
        "scope": "one two",
    }
    assert form(REFRESH, refresh_token="newer")["refresh_token"] == "newer"


def test_a_federated_assertion() -> None:
    assert form(FEDERATED, own_token="a.b.c") == {
        "grant_type": "client_credentials",
        "client_id": "id",
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": "a.b.c",
        "scope": "one two",
    }


def test_google_s_assertion_is_signed_for_the_user() -> None:
    posted = form(google(pem(RSA_2048)))
    assert posted["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer"
    head, body, signature = posted["assertion"].split(".")
    assert json.loads(_decoded(head)) == {"alg": "RS256", "typ": "JWT", "kid": "k1"}
    claims = json.loads(_decoded(body))
    assert claims == {
        "iss": "sa@project.iam",
        "sub": "robot@example.com",
        "aud": "https://login.example.com/token",
        "scope": "one two",
        "iat": 999_940,
        "exp": 1_002_940,
    }
    assert claims["exp"] - claims["iat"] <= 3600
    RSA_2048.public_key().verify(
        _decoded(signature), f"{head}.{body}".encode(), padding.PKCS1v15(), SHA256()
    )


@pytest.mark.parametrize("key", ["", "no key", pem(KEYS["p-256"])])
def test_a_key_that_cannot_sign_is_said(key: str) -> None:
    with pytest.raises(UnusableGrant, match="private_key is not"):
        form(google(key))


def test_a_grant_of_a_newer_operator_is_said() -> None:
    document = SECRET.model_dump(mode="json", by_alias=True) | {"grant": {"kind": "device"}}
    with pytest.raises(UnusableGrant, match="kind 'device'"):
        form(OAuth2.read(document))


def test_no_secret_is_in_a_repr() -> None:
    key = pem(RSA_2048)
    for which in (SECRET, REFRESH, google(key)):
        smarthost = made.smarthost(hosts=({"host": "h", "port": 25},), auth=which)
        assert isinstance(smarthost, Smarthost)
        for secret in ("s3cret", "given", key[40:60]):
            assert secret not in repr(smarthost)
    assert secrets_of(SECRET, "", "x") == ("s3cret&=", "x")
    assert secrets_of(REFRESH) == ("given",)


def test_each_audience_has_a_file_that_a_person_knows() -> None:
    names = [
        token_file_name(one)
        for one in ("api://AzureADTokenExchange", "sts.amazonaws.com", "a/b", "a-b")
    ]
    assert names[0].startswith("api-AzureADTokenExchange-")
    assert names[1].startswith("sts.amazonaws.com-")
    assert len(set(names)) == 4
    for name in [*names, token_file_name("../../etc/passwd"), token_file_name("..")]:
        assert "/" not in name
        assert not name.startswith(".")
