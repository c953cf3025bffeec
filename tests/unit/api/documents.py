"""The least resources of each kind, to be given other fields by the tests."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from tests.models.manifests import mail_relay

Document = dict[str, Any]

LOGIN = {"basic": {"secretRef": {"name": "login"}}}
HOSTS = [{"host": "smtp.example.net", "port": 587}]
GOLD = {"matchLabels": {"tier": "gold"}}


NO_LOGIN = {"mode": "None", "clientCIDRs": ["10.0.0.0/8"]}
PLAIN = {"mode": "None"}


def resource(kind: str, name: str, spec: Mapping[str, Any]) -> Document:
    """A resource of ours."""
    return {
        "apiVersion": "mailrelay.dev/v1alpha1",
        "kind": kind,
        "metadata": {"name": name, "namespace": "default"},
        "spec": copy.deepcopy(dict(spec)),
    }


def relay(**fields: Any) -> Document:
    """The least MailRelay, with these fields of its spec."""
    return copy.deepcopy(mail_relay("relay", "default", **fields))


def listening(**fields: Any) -> Document:
    """A MailRelay with one listener of these fields."""
    return relay(listeners=[{"name": "one", "port": 2525, **fields}])


def sending_by(**fields: Any) -> Document:
    """A MailRelay with one upstream of these fields."""
    return relay(upstreams=[{"name": "one", **fields}])


def relaying_by(**fields: Any) -> Document:
    """A MailRelay with one smarthost of these fields."""
    return sending_by(smarthost={"hosts": HOSTS, **fields})


def limited_by(**rate: Any) -> Document:
    """A MailRelay with one rate of these fields."""
    return relay(limits={"rates": [{"name": "one", "scope": "Relay", **rate}]})


def oauth2(**fields: Any) -> Document:
    """A MailRelay with a smarthost that is logged in to with OAuth2."""
    login = {
        "username": "robot@example.com",
        "tokenURL": "https://login.example.com/token",
        "clientID": "client",
        **fields,
    }
    login = {name: value for name, value in login.items() if value is not None}
    return relaying_by(auth={"oauth2": login})


def admitting(**entry: Any) -> Document:
    """A MailRelay with one entry of allowedSenders."""
    return relay(allowedSenders=[{"name": "one", **entry}])


def sender(**fields: Any) -> Document:
    """The least MailSender, with these fields of its spec (None takes one away)."""
    spec = {
        "relayRef": {"name": "relay"},
        "from": ["*@example.com"],
        "credentials": {"secretName": "smtp"},
        **fields,
    }
    kept = {key: value for key, value in spec.items() if value is not None}
    return resource("MailSender", "sender", kept)


def domain(**fields: Any) -> Document:
    """The least MailDomain, with these fields of its spec."""
    spec = {"domain": "example.com", "relayRef": {"name": "relay"}, **fields}
    return resource("MailDomain", "example-com", spec)


def named(document: Document, name: str) -> Document:
    """The same resource under another name."""
    return document | {"metadata": document["metadata"] | {"name": name}}
