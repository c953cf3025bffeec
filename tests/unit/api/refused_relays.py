"""MailRelays whose name, listeners, senders or ways out break a rule."""

from __future__ import annotations

from tests.unit.api.documents import (
    GOLD,
    LOGIN,
    NO_LOGIN,
    PLAIN,
    admitting,
    listening,
    named,
    oauth2,
    relay,
    relaying_by,
    sending_by,
)
from tests.unit.api.refused import Bad, beyond_cel, broken

BAD_RELAYS: tuple[Bad, ...] = (
    # --- names
    broken("name too long", named(relay(), "a" * 46), "metadata.name", "at most 45 lower-case"),
    broken("name with a dot", named(relay(), "a.b"), "metadata.name", "at most 45 lower-case"),
    broken(
        "name with a digit first",
        named(relay(), "1a"),
        "metadata.name",
        "A MailRelay's name has at",
    ),
    broken(
        "host name of one label",
        relay(hostname="localhost"),
        "spec.hostname",
        "Write a domain as in example.com:",
    ),
    broken(
        "host name with a dot",
        relay(hostname="a.example.com."),
        "spec.hostname",
        "Write a domain as in",
    ),
    broken(
        "address as host name",
        relay(hostname="192.0.2.1"),
        "spec.hostname",
        "Write a domain as in example.com:",
    ),
    # --- listeners
    broken(
        "listener in capitals",
        relay(listeners=[{"name": "SMTP", "port": 2525}]),
        "spec.listeners[SMTP].name",
        "A listener's name consists of lower-case",
    ),
    broken(
        "listener called admin",
        relay(listeners=[{"name": "admin", "port": 2525}]),
        "spec.listeners[admin].name",
        "The names admin and peer",
    ),
    broken("admin port", listening(port=8025), "spec.listeners[one].port", "Ports 8025 (admin)"),
    broken("peer port", listening(port=8026), "spec.listeners[one].port", "Ports 8025 (admin)"),
    broken(
        "authentication without TLS",
        listening(tls=PLAIN),
        "spec.listeners[one].tls.mode",
        "Authentication without TLS would send",
    ),
    broken(
        "nobody logs in, from anywhere",
        listening(authentication={"mode": "None"}),
        "spec.listeners[one].authentication.clientCIDRs",
        "name the networks that may submit",
    ),
    broken(
        "networks beside logins",
        listening(authentication={"clientCIDRs": ["10.0.0.0/8"]}),
        "spec.listeners[one].authentication.clientCIDRs",
        "clientCIDRs is for authentication.mode None",
    ),
    broken(
        "everybody as client",
        listening(authentication={"mode": "None", "clientCIDRs": ["0.0.0.0/0"]}),
        "spec.listeners[one].authentication.clientCIDRs[0]",
        "A client network needs a",
    ),
    broken(
        "everybody as client, IPv6",
        listening(authentication={"mode": "None", "clientCIDRs": ["::/0"]}),
        "spec.listeners[one].authentication.clientCIDRs[0]",
        "A client network needs a",
    ),
    broken(
        "half of a continent as client, IPv6",
        listening(authentication={"mode": "None", "clientCIDRs": ["2a00::/8"]}),
        "spec.listeners[one].authentication.clientCIDRs[0]",
        "A client network needs a",
    ),
    broken(
        "a cloud as client",
        listening(authentication={"mode": "None", "clientCIDRs": ["52.0.0.0/8"]}),
        "spec.listeners[one].authentication.clientCIDRs[0]",
        "A client network needs a",
    ),
    broken(
        "network with host bits",
        listening(proxyProtocol={"trustedCIDRs": ["10.0.0.1/8"]}),
        "spec.listeners[one].proxyProtocol.trustedCIDRs[0]",
        "Write a network as in 10.244.0.0/16",
    ),
    broken(
        "certificates without TLS",
        listening(
            tls={"mode": "None", "certificateRefs": [{"name": "x"}]}, authentication=NO_LOGIN
        ),
        "spec.listeners[one].tls.mode",
        "Certificates require TLS: set tls.mode to",
    ),
    broken(
        "STARTTLS in HTTP",
        listening(protocol="HTTP"),
        "spec.listeners[one].tls.mode",
        "StartTLS is for SMTP only: set",
    ),
    broken(
        "same port twice",
        relay(listeners=[{"name": "a", "port": 2525}, {"name": "b", "port": 2525}]),
        "spec.listeners",
        "Two listeners have the same port",
    ),
    broken(
        "same port in the pod",
        relay(listeners=[{"name": "a", "port": 587}, {"name": "b", "port": 10587}]),
        "spec.listeners",
        "the same port in the pod",
    ),
    broken(
        "no logins behind a load balancer",
        relay(
            service={"type": "LoadBalancer"},
            listeners=[{"name": "one", "port": 25, "authentication": NO_LOGIN}],
        ),
        "spec.listeners",
        "hides who connects",
    ),
    broken(
        "no logins behind a node port",
        relay(
            service={"type": "NodePort"},
            listeners=[{"name": "one", "port": 25, "authentication": NO_LOGIN}],
        ),
        "spec.listeners",
        "hides who connects",
    ),
    # --- allowedSenders
    broken(
        "other namespaces without addresses",
        admitting(namespaces={"from": "All"}),
        "spec.allowedSenders[one].addresses",
        "addresses is required when other namespaces",
    ),
    broken(
        "Selector without a selector",
        admitting(namespaces={"from": "Selector"}, addresses=["*"]),
        "spec.allowedSenders[one].namespaces.from",
        "selector is required with from:",
    ),
    broken(
        "selector without Selector",
        admitting(namespaces={"from": "All", "selector": GOLD}, addresses=["*"]),
        "spec.allowedSenders[one].namespaces.from",
        "selector is required with from:",
    ),
    broken(
        "empty selector",
        admitting(namespaces={"from": "Selector", "selector": {}}, addresses=["*"]),
        "spec.allowedSenders[one].namespaces.selector",
        "An empty selector would match every namespace",
    ),
    broken(
        "In without values",
        admitting(
            namespaces={
                "from": "Selector",
                "selector": {"matchExpressions": [{"key": "a", "operator": "In"}]},
            },
            addresses=["*"],
        ),
        "spec.allowedSenders[one].namespaces.selector.matchExpressions[0]",
        "In and NotIn need values",
    ),
    broken(
        "pattern of addresses",
        admitting(addresses=["*@*.example.com"]),
        "spec.allowedSenders[one].addresses[0]",
        "or * for any",
    ),
    broken(
        "long local part",
        admitting(addresses=["a" * 65 + "@example.com"]),
        "spec.allowedSenders[one].addresses[0]",
        "at most 64 characters",
    ),
    beyond_cel(
        "key of a selector",
        admitting(
            namespaces={"from": "Selector", "selector": {"matchLabels": {"a b": "c"}}},
            addresses=["*"],
        ),
        "spec.allowedSenders[one].namespaces.selector.matchLabels",
        "Write a label key as in",
    ),
    broken(
        "key of an expression",
        admitting(
            namespaces={
                "from": "Selector",
                "selector": {"matchExpressions": [{"key": "/a", "operator": "Exists"}]},
            },
            addresses=["*"],
        ),
        "spec.allowedSenders[one].namespaces.selector.matchExpressions[0].key",
        "Write a label key as in",
    ),
    broken(
        "long key of an expression",
        admitting(
            namespaces={
                "from": "Selector",
                "selector": {"matchExpressions": [{"key": "a/" + "b" * 64, "operator": "Exists"}]},
            },
            addresses=["*"],
        ),
        "spec.allowedSenders[one].namespaces.selector.matchExpressions[0].key",
        "at most 63 characters after its prefix",
    ),
    broken(
        "value of a label",
        admitting(
            namespaces={"from": "Selector", "selector": {"matchLabels": {"a": "-b"}}},
            addresses=["*"],
        ),
        "spec.allowedSenders[one].namespaces.selector.matchLabels.a",
        "A label value consists of letters,",
    ),
    # --- Service and image
    broken(
        "class of no load balancer",
        relay(service={"loadBalancerClass": "example.com/internal"}),
        "spec.service.type",
        "loadBalancerClass and sourceRanges are for",
    ),
    broken(
        "source ranges of no load balancer",
        relay(service={"type": "NodePort", "sourceRanges": ["192.0.2.0/24"]}),
        "spec.service.type",
        "loadBalancerClass and sourceRanges are for",
    ),
    broken(
        "traffic from outside that does not come",
        relay(service={"externalTrafficPolicy": "Local"}),
        "spec.service.externalTrafficPolicy",
        "externalTrafficPolicy is not for type",
    ),
    broken(
        "same family twice",
        relay(service={"ipFamilies": ["IPv6", "IPv6"]}),
        "spec.service.ipFamilies",
        "The two families are the same",
    ),
    beyond_cel(
        "key of an annotation",
        relay(service={"annotations": {"a b": "c"}}),
        "spec.service.annotations",
        "Write an annotation key as in",
    ),
    broken(
        "image without a tag",
        relay(image="registry.example.com/gateway"),
        "spec.image",
        "with its tag or digest",
    ),
    # --- upstreams
    broken("upstream of no kind", sending_by(), "spec.upstreams[one]", "exactly one of smarthost"),
    broken(
        "upstream of two kinds",
        sending_by(sandbox={}, direct={}),
        "spec.upstreams[one]",
        "exactly one of smarthost",
    ),
    broken(
        "upstream's name in capitals",
        relay(upstreams=[{"name": "Box", "sandbox": {}}]),
        "spec.upstreams[Box].name",
        "A name consists of lower-case letters,",
    ),
    broken(
        "smarthost without hosts",
        relaying_by(hosts=[]),
        "spec.upstreams[one].smarthost.hosts",
        "Set at least one host (also",
    ),
    broken(
        "SES without hosts",
        sending_by(smarthost={"provider": "SES"}),
        "spec.upstreams[one].smarthost.hosts",
        "Set at least one host",
    ),
    broken(
        "host with a port",
        relaying_by(hosts=[{"host": "smtp.example.net:587"}]),
        "spec.upstreams[one].smarthost.hosts[0].host",
        "without port or brackets",
    ),
    broken(
        "port 465 with STARTTLS",
        relaying_by(hosts=[{"host": "smtp.example.net", "port": 465}]),
        "spec.upstreams[one].smarthost.tls.mode",
        "Port 465 uses implicit TLS (RFC",
    ),
    broken(
        "login without TLS",
        relaying_by(tls=PLAIN, auth=LOGIN),
        "spec.upstreams[one].smarthost.tls.mode",
        "A login without TLS",
    ),
    broken(
        "login without TLS at a provider",
        sending_by(smarthost={"provider": "Mailgun", "tls": PLAIN, "auth": LOGIN}),
        "spec.upstreams[one].smarthost.tls.mode",
        "A login without TLS",
    ),
    broken(
        "no kind of login",
        relaying_by(auth={}),
        "spec.upstreams[one].smarthost.auth",
        "exactly one of basic and oauth2",
    ),
    broken(
        "client credentials without a secret",
        oauth2(flow="ClientCredentials"),
        "spec.upstreams[one].smarthost.auth.oauth2.flow",
        "The flow ClientCredentials requires clientSecretRef.",
    ),
    broken(
        "refresh token without a token",
        oauth2(flow="RefreshToken"),
        "spec.upstreams[one].smarthost.auth.oauth2.flow",
        "refreshTokenRef is required with the",
    ),
    broken(
        "a client secret that nobody uses",
        oauth2(flow="Federated", clientSecretRef={"name": "app", "key": "secret"}),
        "spec.upstreams[one].smarthost.auth.oauth2.flow",
        "clientSecretRef is allowed only with the",
    ),
    broken(
        "a service account without its key",
        oauth2(flow="ServiceAccountKey", clientID=None),
        "spec.upstreams[one].smarthost.auth.oauth2.flow",
        "serviceAccountKeyRef is required with the",
    ),
    broken(
        "a flow without a client",
        oauth2(flow="Federated", clientID=None),
        "spec.upstreams[one].smarthost.auth.oauth2.flow",
        "clientID is required, except with",
    ),
    broken(
        "an audience that no token is for",
        oauth2(
            flow="ClientCredentials",
            clientSecretRef={"name": "app", "key": "secret"},
            audience="idp",
        ),
        "spec.upstreams[one].smarthost.auth.oauth2.flow",
        "audience is allowed only with the",
    ),
    broken(
        "the API server's audience",
        oauth2(flow="Federated", audience="https://kubernetes.default.svc.cluster.local"),
        "spec.upstreams[one].smarthost.auth.oauth2.audience",
        "audience must not be that",
    ),
    broken(
        "mailrelay's own audience",
        oauth2(flow="Federated", audience="mailrelay.dev/smtp"),
        "spec.upstreams[one].smarthost.auth.oauth2.audience",
        "audience must not be that",
    ),
    broken(
        "an audience with a space",
        oauth2(flow="Federated", audience="two words"),
        "spec.upstreams[one].smarthost.auth.oauth2.audience",
        "An audience must be a name",
    ),
    broken(
        "tokens over http",
        oauth2(
            flow="ClientCredentials",
            clientSecretRef={"name": "app", "key": "secret"},
            tokenURL="http://login.example.com/",
        ),
        "spec.upstreams[one].smarthost.auth.oauth2.tokenURL",
        "must start with https://",
    ),
    broken(
        "two scopes in one",
        oauth2(
            flow="ClientCredentials",
            clientSecretRef={"name": "app", "key": "secret"},
            scopes=["mail.send offline"],
        ),
        "spec.upstreams[one].smarthost.auth.oauth2.scopes[0]",
        "A scope must be printable ASCII",
    ),
    broken(
        "strange key of a Secret",
        oauth2(flow="ClientCredentials", clientSecretRef={"name": "app", "key": "a b"}),
        "spec.upstreams[one].smarthost.auth.oauth2.clientSecretRef.key",
        "A key of a Secret",
    ),
    broken(
        "strange name of a Secret",
        relaying_by(auth={"basic": {"secretRef": {"name": "A_b"}}}),
        "spec.upstreams[one].smarthost.auth.basic.secretRef.name",
        "The name of an object",
    ),
    broken(
        "pace of two things",
        sending_by(sandbox={}, pace=[{"name": "one", "recipients": 1, "messages": 1, "per": "1s"}]),
        "spec.upstreams[one].pace[one]",
        "exactly one of recipients and messages",
    ),
    broken(
        "pace of an instant",
        sending_by(sandbox={}, pace=[{"name": "one", "recipients": 1, "per": "100ms"}]),
        "spec.upstreams[one].pace[one].per",
        "at least 1s",
    ),
    broken(
        "same route twice",
        relay(routes=[{"name": "a", "upstreams": [{"name": "box"}]}] * 2),
        "spec.routes",
        "Two routes have the same name",
    ),
    broken(
        "route to nowhere",
        relay(routes=[{"name": "one", "upstreams": [{"name": "other"}]}]),
        "spec.routes",
        "A route names an upstream",
    ),
    broken(
        "strange domain in a route",
        relay(
            routes=[
                {
                    "name": "one",
                    "match": {"senderDomains": ["@example.com"]},
                    "upstreams": [{"name": "box"}],
                }
            ]
        ),
        "spec.routes[0].match.senderDomains[0]",
        "or *.example.com",
    ),
)
