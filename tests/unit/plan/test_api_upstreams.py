"""What the references of API upstreams hold, what is wrong with them, and what the gateway gets."""

from __future__ import annotations

from typing import Any

import pytest

from mailrelay_gateway.contract import api_upstreams as contract
from mailrelay_gateway.contract import oauth2
from mailrelay_gateway.contract.files import load
from mailrelay_operator.api.reasons import Reason
from mailrelay_operator.engine.minting import mint_authority
from mailrelay_operator.plan.facts import Place
from tests.unit.plan.build import NOW, Manifest, applied, brought, facts, plan, relay, statuses

PLACE = Place(token_audiences=("api://AzureADTokenExchange", "sts.amazonaws.com"))
KEYS = brought("keys", accessKeyID="AKIA1", secretAccessKey=" secret\n", client="c-secret")
CA = mint_authority("the endpoint's", now=NOW).certificate
TRUST = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "trust", "namespace": "mail"},
    "data": {"ca.crt": CA},
}
ROLE = "arn:aws:iam::111122223333:role/mail"
BY_TOKEN = {"webIdentity": {"roleARN": ROLE}}


def ses(credentials: Any = BY_TOKEN, name: str = "out", **fields: Any) -> Manifest:
    service = {"region": "eu-central-1", "credentials": credentials} | fields
    return {"name": name, "api": {"ses": service}}


def graph(credentials: Any, **fields: Any) -> Manifest:
    service = {
        "tenantID": "example.com",
        "clientID": "app",
        "credentials": credentials,
        "mailbox": "robot@example.com",
    }
    return {"name": "out", "api": {"graph": service | fields}}


def planned(*upstreams: Manifest, objects: Any = (KEYS, TRUST), place: Place = PLACE) -> Any:
    return plan(facts(relay(upstreams=list(upstreams)), objects=objects, place=place))


def settings(upstream: Manifest) -> Any:
    made = planned(upstream)
    assert made.problems == ()
    found = load(made.relay.files).relay.upstreams[0]
    assert isinstance(found.settings, contract.Api)
    return found.settings.service


def test_ses_with_the_pods_token() -> None:
    assert settings(ses(configurationSet="all", tenant="team")) == contract.Ses(
        url="https://email.eu-central-1.amazonaws.com",
        region="eu-central-1",
        ca=None,
        credentials=contract.WebIdentity(
            role_arn=ROLE,
            audience="sts.amazonaws.com",
            sts_url="https://sts.eu-central-1.amazonaws.com/",
        ),
        configuration_set="all",
        tenant="team",
    )


def test_ses_with_a_key_at_a_private_endpoint() -> None:
    found = settings(
        ses(
            {"secretRef": {"name": "keys"}},
            endpoint="https://10.1.2.3",
            caRef={"kind": "ConfigMap", "name": "trust"},
        )
    )
    assert found.url == "https://10.1.2.3"
    assert found.ca == CA
    assert found.credentials == contract.AccessKey(
        access_key_id="AKIA1", secret_access_key="secret", session_token=""
    )


def test_ses_in_china_has_a_domain_of_its_own() -> None:
    found = settings(ses(region="cn-north-1"))
    assert found.url == "https://email.cn-north-1.amazonaws.com.cn"
    assert found.credentials.sts_url == "https://sts.cn-north-1.amazonaws.com.cn/"


def test_graph_in_both_ways() -> None:
    found = settings(graph({"federated": {}}, rewriteRecipients=True))
    assert found.rewrite_recipients
    assert found.mailbox == "robot@example.com"
    assert (
        found.login.token_url == "https://login.microsoftonline.com/example.com/oauth2/v2.0/token"
    )
    assert found.login.scopes == ("https://graph.microsoft.com/.default",)
    assert found.login.grant == oauth2.Federated(
        client_id="app", audience="api://AzureADTokenExchange"
    )
    found = settings(
        graph(
            {"secretRef": {"name": "keys", "key": "client"}},
            endpoint="https://graph.microsoft.us/",
            loginEndpoint="https://login.microsoftonline.us",
        )
    )
    assert found.url == "https://graph.microsoft.us"
    assert found.login.scopes == ("https://graph.microsoft.us/.default",)
    assert found.login.token_url.startswith("https://login.microsoftonline.us/example.com/")
    assert found.login.grant == oauth2.ClientCredentials(client_id="app", client_secret="c-secret")


def test_pods_get_the_tokens_that_are_asked_for() -> None:
    made = planned(ses(), graph({"federated": {}}) | {"name": "second"})
    volumes = str(applied(made, "StatefulSet"))
    assert "sts.amazonaws.com" in volumes
    assert "api://AzureADTokenExchange" in volumes


def test_sizes_are_announced_by_what_the_services_take() -> None:
    found = load(planned(graph({"federated": {}})).relay.files).relay.upstreams[0]
    assert found.max_size == 3 * 1024 * 1024


@pytest.mark.parametrize(
    ("upstream", "objects", "reason", "path"),
    [
        (
            ses({"secretRef": {"name": "keys"}}),
            (),
            Reason.SECRET_NOT_FOUND,
            "ses.credentials.secretRef",
        ),
        (
            ses({"secretRef": {"name": "keys"}}),
            (brought("keys", accessKeyID="AKIA1"),),
            Reason.SECRET_INVALID,
            "ses.credentials.secretRef",
        ),
        (
            graph({"secretRef": {"name": "keys", "key": "none"}}),
            (KEYS,),
            Reason.SECRET_INVALID,
            "graph.credentials.secretRef",
        ),
        (
            graph({"federated": {"audience": "other"}}),
            (),
            Reason.AUDIENCE_NOT_ALLOWED,
            "graph.credentials.federated.audience",
        ),
        (
            ses(BY_TOKEN | {"webIdentity": {"roleARN": ROLE, "audience": "other"}}),
            (),
            Reason.AUDIENCE_NOT_ALLOWED,
            "ses.credentials.webIdentity.audience",
        ),
    ],
)
def test_what_is_wrong_is_said_with_its_field(
    upstream: Manifest, objects: Any, reason: Reason, path: str
) -> None:
    made = planned(upstream, {"name": "box", "sandbox": {}}, objects=objects)
    conditions = {
        one["type"]: one for one in statuses(made, "MailRelay")[0]["status"]["conditions"]
    }
    resolved = conditions["ResolvedRefs"]
    assert (resolved["status"], resolved["reason"]) == ("False", reason)
    assert [one.trouble.path for one in made.problems] == [f"spec.upstreams[out].api.{path}"]
    assert [one.name for one in load(made.relay.files).relay.upstreams] == ["box"]
