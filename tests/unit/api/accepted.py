"""Resources that are good, and together use about every field."""

from __future__ import annotations

from collections.abc import Mapping

from tests.unit.api.documents import (
    GOLD,
    HOSTS,
    LOGIN,
    NO_LOGIN,
    PLAIN,
    Document,
    admitting,
    domain,
    listening,
    named,
    oauth2,
    relay,
    relaying_by,
    sender,
    sending_by,
)

GOOD: Mapping[str, Document] = {
    "least relay": relay(),
    "longest name": named(relay(), "a" * 45),
    "three listeners": relay(
        listeners=[
            {"name": "submission", "port": 587},
            {"name": "submissions", "port": 465, "tls": {"mode": "Implicit"}},
            {"name": "plain", "port": 25, "tls": PLAIN, "authentication": NO_LOGIN},
        ]
    ),
    "http over tls": listening(protocol="HTTP", tls={"mode": "Implicit"}),
    "client certificates": listening(tls={"clientCARef": {"kind": "ConfigMap", "name": "ca"}}),
    "proxy protocol": listening(proxyProtocol={"trustedCIDRs": ["10.0.0.0/8", "fd00:1::/64"]}),
    "load balancer with logins": relay(service={"type": "LoadBalancer"}),
    "same namespace, any address": admitting(namespaces={"from": "Same"}),
    "all namespaces, any address": admitting(namespaces={"from": "All"}, addresses=["*"]),
    "selected namespaces": admitting(
        namespaces={"from": "Selector", "selector": GOLD}, addresses=["*@example.com"]
    ),
    "expressions": admitting(
        namespaces={
            "from": "Selector",
            "selector": {
                "matchExpressions": [
                    {"key": "mail", "operator": "Exists"},
                    {"key": "tier", "operator": "In", "values": ["gold", "silver"]},
                ]
            },
        },
        addresses=["a@example.com"],
    ),
    "nobody may send": relay(allowedSenders=[]),
    "ses with the pod's token": sending_by(
        api={
            "ses": {
                "region": "eu-central-1",
                "credentials": {"webIdentity": {"roleARN": "arn:aws:iam::111122223333:role/mail"}},
                "configurationSet": "all",
                "tenant": "platform",
            }
        }
    ),
    "ses with a key": sending_by(
        api={
            "ses": {
                "region": "us-gov-west-1",
                "endpoint": "https://vpce-1.email.us-gov-west-1.vpce.amazonaws.com",
                "caRef": {"name": "ca"},
                "credentials": {"secretRef": {"name": "ses"}},
            }
        }
    ),
    "graph": sending_by(
        api={
            "graph": {
                "tenantID": "00000000-0000-0000-0000-000000000000",
                "clientID": "app",
                "credentials": {"federated": {}},
                "mailbox": "robot@example.com",
                "rewriteRecipients": True,
            }
        }
    ),
    "smarthost": relaying_by(auth=LOGIN, tls={"caRef": {"name": "ca"}, "serverName": "mx.lan"}),
    "smarthost on 465": relaying_by(
        hosts=[{"host": "smtp.example.net", "port": 465}], tls={"mode": "Implicit"}
    ),
    "provider with hosts of its own": sending_by(smarthost={"provider": "SendGrid"}),
    "provider with regional hosts": relaying_by(provider="SES"),
    "provider with implicit TLS": sending_by(
        smarthost={"provider": "Cloudflare", "hosts": [{"host": "smtp.example.net", "port": 465}]}
    ),
    "what the preset leaves to the spec": sending_by(
        smarthost={"provider": "SES", "hosts": HOSTS, "tls": {"mode": "Implicit"}},
        connections=3,
        maxSize="1Mi",
        maxRecipients=10,
    ),
    "smarthost without TLS or login": relaying_by(tls=PLAIN),
    "login without TLS on this machine": relaying_by(
        hosts=[{"host": "127.0.0.1", "port": 2525}, {"host": "::1"}], tls=PLAIN, auth=LOGIN
    ),
    "provider without hosts": sending_by(smarthost={"provider": "Mailgun", "auth": LOGIN}),
    "client credentials": oauth2(
        flow="ClientCredentials", clientSecretRef={"name": "app", "key": "secret"}
    ),
    "refresh token": oauth2(flow="RefreshToken", refreshTokenRef={"name": "app", "key": "token"}),
    "refresh token of a confidential client": oauth2(
        flow="RefreshToken",
        refreshTokenRef={"name": "app", "key": "token"},
        clientSecretRef={"name": "app", "key": "secret"},
    ),
    "federated": oauth2(flow="Federated"),
    "federated elsewhere": oauth2(
        flow="Federated",
        audience="https://idp.example.com/token",
        tokenCARef={"kind": "ConfigMap", "name": "idp-ca"},
        mechanism="OAUTHBEARER",
    ),
    "service account key": oauth2(
        flow="ServiceAccountKey",
        clientID=None,
        serviceAccountKeyRef={"name": "google", "key": "key.json"},
        scopes=["https://mail.google.com/"],
    ),
    "direct": sending_by(direct={}),
    "paces": sending_by(
        sandbox={},
        pace=[
            {"name": "rate", "recipients": 13, "per": "1s"},
            {"name": "day", "messages": 9, "per": "24h"},
        ],
    ),
    "replies": sending_by(
        sandbox={},
        replies=[
            {
                "name": "slow",
                "code": 550,
                "text": "try again",
                "outcome": "Deferred",
                "after": "10m",
            },
            {"name": "policy", "enhanced": "5.7.1", "outcome": "Failed"},
            {"name": "busy", "stage": "AUTH", "code": 454, "outcome": "Held", "after": "24h"},
            {"name": "parts", "stage": "RCPT", "text": "50 only", "outcome": "Split"},
            {"name": "anew", "stage": "EndOfMessage", "code": 421, "outcome": "Reconnect"},
        ],
    ),
    "attribution": sending_by(
        smarthost={"provider": "SES", "hosts": HOSTS},
        attribution=[
            {"header": "X-SES-TENANT", "from": "Namespace"},
            {"header": "X-SES-CONFIGURATION-SET", "from": "Template", "template": "all-mail"},
            {"header": "X-Who", "from": "Template", "template": "{namespace}_{sender}"},
            {"header": "X-Sender", "from": "Sender"},
        ],
        passHeaders=["X-SES-MESSAGE-TAGS"],
        replies=[
            {"name": "tenant", "text": "paused", "outcome": "Held", "scope": "Namespace"},
        ],
    ),
    "routes": relay(
        routes=[
            {
                "name": "ours",
                "match": {"senderDomains": ["*.example.com"]},
                "upstreams": [{"name": "box"}],
            },
            {"name": "rest", "upstreams": [{"name": "box", "weight": 3}]},
        ]
    ),
    "rates": relay(
        limits={
            "rates": [
                {"name": "all", "scope": "Relay", "messages": 100, "per": "1m", "burst": 200},
                {
                    "name": "day",
                    "scope": "Sender",
                    "recipients": 5000,
                    "per": "24h",
                    "onLimit": "Reject",
                },
            ],
            "overrides": [
                {
                    "name": "gold",
                    "namespaceSelector": GOLD,
                    "rates": [{"name": "hour", "scope": "Namespace", "messages": 5, "per": "1h"}],
                }
            ],
        }
    ),
    "quick retries": relay(retry={"giveUpAfter": "10s", "maxInterval": "1s"}),
    "ephemeral queue": relay(queue={"ephemeral": {}}),
    "large ephemeral queue": relay(queue={"ephemeral": {"size": "20Gi"}}),
    "volume just large enough": relay(queue={"storage": {"size": "256Mi"}}),
    "volume just large enough for large messages": relay(
        queue={"storage": {"size": "1216Mi"}}, limits={"message": {"maxSize": "1Gi"}}
    ),
    "private networks as clients": listening(
        tls=PLAIN,
        authentication={
            "mode": "None",
            "clientCIDRs": ["10.0.0.0/8", "172.16.0.0/12", "203.0.0.0/16", "fd00:1::/32"],
        },
    ),
    "another key for a CA": relaying_by(tls={"caRef": {"name": "ca", "key": "bundle.pem"}}),
    "own image": relay(image="registry.example.com:5000/mail/gateway:1.2.3"),
    "image by digest": relay(image=f"gateway@sha256:{'0' * 64}"),
    "load balancer of a class": relay(
        service={
            "type": "LoadBalancer",
            "loadBalancerClass": "example.com/internal",
            "sourceRanges": ["192.0.2.0/24"],
            "externalTrafficPolicy": "Local",
            "ipFamilies": ["IPv6", "IPv4"],
        }
    ),
    "annotations of a load balancer": relay(
        service={
            "annotations": {
                "Service.Example.com/internal": "true",
                "external-dns.alpha.kubernetes.io/hostname": "relay.example.com",
            }
        }
    ),
    "storage": relay(
        queue={
            "storage": {
                "size": "1.5Gi",
                "storageClassName": "fast",
                "accessMode": "ReadWriteOncePod",
            },
            "maxMessages": 1000,
        }
    ),
    "staging": relay(
        recipients={"allow": ["*@example.com"], "redirectTo": "qa@example.com"},
        rewrite={
            "envelopeFrom": "robot@example.com",
            "headers": {"add": [{"name": "X-Environment", "value": "staging"}]},
        },
    ),
    "surroundings": relay(
        networkPolicy={
            "clients": [
                {"name": "network", "cidr": "10.0.0.0/8"},
                {"name": "gold", "namespaceSelector": GOLD},
            ]
        },
        resolver={"servers": [{"address": "9.9.9.9"}], "validating": True},
        webhooks=[{"name": "hook", "url": "https://hooks.example.com/mail"}],
        admin={"serviceAccounts": [{"namespace": "mail", "name": "ops"}]},
        template={"resources": {"limits": {"memory": "512Mi", "cpu": "500m"}}},
        serviceAccountTokens={},
        suppression={"hardBounces": "720h", "addresses": ["gone@example.com"]},
    ),
    "nulls": relay(service=None, routes=None, limits={"message": None}),
    "least sender": sender(),
    "brought login": sender(credentials={"existingSecretRef": {"name": "old"}}),
    "rotated": sender(credentials={"secretName": "smtp", "rotateEvery": "720h"}),
    "tokens only": sender(credentials=None, serviceAccounts=[{"name": "app"}]),
    "lower limits": sender(limits={"rates": [{"name": "m", "messages": 100, "per": "10m"}]}),
    "least domain": domain(),
    "keys": domain(
        dkim=[
            {"selector": "mr1", "rotateEvery": "2160h"},
            {"selector": "mr2", "algorithm": "Ed25519", "secretName": "key"},
        ],
        verification={"interval": "10m"},
    ),
}
