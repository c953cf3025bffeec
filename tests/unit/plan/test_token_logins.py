"""What the references of a login by OAuth2 hold, what is wrong with them, and what the pods get."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mailrelay_gateway.contract import oauth2
from mailrelay_gateway.contract.documents import Smarthost
from mailrelay_gateway.contract.files import load
from mailrelay_gateway.contract.oauth2 import TOKENS_FOLDER, token_file_name
from mailrelay_operator.api.reasons import Reason
from mailrelay_operator.engine.minting import mint_authority
from mailrelay_operator.plan.facts import Place
from tests.unit.plan.build import (
    NOW,
    STANDALONE,
    Manifest,
    applied,
    brought,
    facts,
    plan,
    relay,
    secret,
    statuses,
)

PLACE = Place(
    token_audiences=("api://AzureADTokenExchange", "my-idp"),
    allowed_egress=("10.96.0.0/12",),
    egress_proxy="http://proxy:3128",
)
KEY = {
    "type": "service_account",
    "client_email": "sa@p",
    "private_key": "PEM",
    "private_key_id": "1",
}
SECRETS = brought("app", secret=" s3cret\n", token="refresh", key=json.dumps(KEY))
CA = mint_authority("the endpoint's", now=NOW).certificate
TRUST = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "trust", "namespace": "mail"},
    "data": {"ca.crt": CA},
}


def logging_in(name: str = "out", **fields: Any) -> Manifest:
    login = {
        "username": "robot@example.com",
        "tokenURL": "https://login.example.com/token",
        "clientID": "client",
        "scopes": ["one"],
        **fields,
    }
    login = {key: value for key, value in login.items() if value is not None}
    return {"name": name, "smarthost": {"hosts": [{"host": "h"}], "auth": {"oauth2": login}}}


def by_secret(**fields: Any) -> Manifest:
    reference = {"name": "app", "key": "secret"}
    return logging_in(flow="ClientCredentials", clientSecretRef=reference, **fields)


def planned(
    *upstreams: Manifest, objects: Any = (SECRETS, TRUST), place: Place = PLACE, **spec: Any
) -> Any:
    return plan(facts(relay(upstreams=list(upstreams), **spec), objects=objects, place=place))


def login(upstream: Manifest) -> oauth2.OAuth2:
    made = planned(upstream)
    assert made.problems == ()
    document = load(made.relay.files).relay
    settings = document.upstreams[0].settings
    assert isinstance(settings, Smarthost)
    assert isinstance(settings.auth, oauth2.OAuth2)
    assert document.egress.allowed_cidrs == ("10.96.0.0/12",)
    assert not document.egress.loopback
    assert document.egress.proxy == "http://proxy:3128"
    return settings.auth


def test_a_client_secret_and_all_that_goes_with_it() -> None:
    found = login(
        by_secret(mechanism="OAUTHBEARER", tokenCARef={"kind": "ConfigMap", "name": "trust"})
    )
    assert found == oauth2.OAuth2(
        username="robot@example.com",
        mechanism=oauth2.SaslMechanism.OAUTHBEARER,
        token_url="https://login.example.com/token",
        ca=CA,
        scopes=("one",),
        grant=oauth2.ClientCredentials(client_id="client", client_secret="s3cret"),
    )


def test_a_refresh_token() -> None:
    found = login(logging_in(flow="RefreshToken", refreshTokenRef={"name": "app", "key": "token"}))
    assert found.grant == oauth2.RefreshToken(
        client_id="client", client_secret="", refresh_token="refresh"
    )


def test_a_google_key() -> None:
    reference = {"name": "app", "key": "key"}
    found = login(
        logging_in(flow="ServiceAccountKey", clientID=None, serviceAccountKeyRef=reference)
    )
    assert found.grant == oauth2.ServiceAccountKey(issuer="sa@p", key_id="1", key="PEM")


def test_a_federated_login_gets_a_token_into_the_pods() -> None:
    assert login(logging_in(flow="Federated")).grant == oauth2.Federated(
        client_id="client", audience="api://AzureADTokenExchange"
    )
    made = planned(
        logging_in("one", flow="Federated", audience="my-idp"),
        logging_in("two", flow="Federated"),
        logging_in("three", flow="Federated"),
    )
    (pods,) = applied(made, "StatefulSet")
    pod = pods["spec"]["template"]["spec"]
    (volume,) = [one for one in pod["volumes"] if one["name"] == "tokens"]
    assert volume["projected"]["sources"] == [
        {
            "serviceAccountToken": {
                "audience": audience,
                "expirationSeconds": 3600,
                "path": token_file_name(audience),
            }
        }
        for audience in ("api://AzureADTokenExchange", "my-idp")
    ]
    mounts = pod["containers"][0]["volumeMounts"]
    assert {"name": "tokens", "mountPath": TOKENS_FOLDER, "readOnly": True} in mounts
    assert pod["automountServiceAccountToken"] is False


def test_pods_without_a_federated_login_get_none() -> None:
    (pods,) = applied(planned(by_secret()), "StatefulSet")
    names = [one["name"] for one in pods["spec"]["template"]["spec"]["volumes"]]
    assert "tokens" not in names


OTHER = {"name": "box", "sandbox": {}}


@pytest.mark.parametrize(
    ("upstream", "objects", "reason", "words"),
    [
        (
            logging_in(flow="Federated", audience="elsewhere"),
            (),
            Reason.AUDIENCE_NOT_ALLOWED,
            "audience elsewhere, but the platform allows api://AzureADTokenExchange, my-idp",
        ),
        (
            by_secret(),
            (),
            Reason.SECRET_NOT_FOUND,
            "Secret mail/app of upstream out does not exist",
        ),
        (
            by_secret(),
            (secret("app", secret="s"),),
            Reason.SECRET_NOT_PERMITTED,
            'add the label mailrelay.dev/credentials: "true"',
        ),
        (by_secret(), (brought("app", secret=" "),), Reason.SECRET_INVALID, "no valid key secret"),
        (by_secret(), (brought("app", other="s"),), Reason.SECRET_INVALID, "no valid key secret"),
        (
            by_secret(tokenCARef={"kind": "ConfigMap", "name": "nowhere"}),
            (SECRETS,),
            Reason.CONFIG_MAP_NOT_FOUND,
            "ConfigMap mail/nowhere of the token endpoint of upstream out",
        ),
        (
            logging_in(
                flow="ServiceAccountKey",
                clientID=None,
                serviceAccountKeyRef={"name": "app", "key": "key"},
            ),
            (brought("app", key='{"client_email": 7}'),),
            Reason.SECRET_INVALID,
            "not the JSON key of a Google service account",
        ),
        (
            logging_in(flow="RefreshToken", refreshTokenRef={"name": "app", "key": "nothing"}),
            (SECRETS,),
            Reason.SECRET_INVALID,
            "no valid key nothing",
        ),
    ],
)
def test_what_is_wrong_is_said_and_the_rest_goes_on(
    upstream: Manifest, objects: tuple[Manifest, ...], reason: Reason, words: str
) -> None:
    made = planned(upstream, OTHER, objects=objects)
    conditions = {
        one["type"]: one for one in statuses(made, "MailRelay")[0]["status"]["conditions"]
    }
    resolved = conditions["ResolvedRefs"]
    assert (resolved["status"], resolved["reason"]) == ("False", reason)
    assert words in resolved["message"]
    assert [one.name for one in load(made.relay.files).relay.upstreams] == ["box"]
    assert "s3cret" not in json.dumps(statuses(made, "MailRelay"))


def test_a_refresh_token_in_an_ephemeral_queue_is_said_not_to_last() -> None:
    refresh = logging_in(flow="RefreshToken", refreshTokenRef={"name": "app", "key": "token"})
    for upstream, said in ((refresh, True), (by_secret(), False)):
        made = planned(upstream, queue={"ephemeral": {}})
        conditions = {
            one["type"]: one for one in statuses(made, "MailRelay")[0]["status"]["conditions"]
        }
        assert conditions["Durable"]["reason"] == "SpoolEphemeral"
        assert ("refresh token" in conditions["Durable"]["message"]) is said


def test_on_this_machine_loopback_is_a_matter_of_the_networks_allowed() -> None:
    made = planned(logging_in(flow="Federated", audience="any"), place=STANDALONE)
    assert made.problems == ()
    assert load(made.relay.files).relay.egress.loopback
