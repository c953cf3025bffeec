"""MailRelays with bad limits, queues or surroundings, bad MailSenders, MailDomains and shapes."""

from __future__ import annotations

from tests.unit.api.documents import (
    GOLD,
    domain,
    limited_by,
    listening,
    relay,
    sender,
)
from tests.unit.api.refused import Bad, broken, misshapen

BAD_OTHERS: tuple[Bad, ...] = (
    # --- limits, retry, queue
    broken(
        "rate of nothing",
        limited_by(per="1s"),
        "spec.limits.rates[one]",
        "exactly one of messages and recipients",
    ),
    broken(
        "rate of an instant",
        limited_by(messages=1, per="999ms"),
        "spec.limits.rates[one].per",
        "per must be from 1s",
    ),
    broken(
        "quota of a year",
        limited_by(messages=1, per="8760h"),
        "spec.limits.rates[one].per",
        "per must be from 1s",
    ),
    broken(
        "quota with a burst",
        limited_by(messages=9, per="61s", burst=1),
        "spec.limits.rates[one].burst",
        "is a quota and has no burst",
    ),
    broken(
        "override for the whole relay",
        relay(
            limits={
                "overrides": [
                    {
                        "name": "gold",
                        "namespaceSelector": GOLD,
                        "rates": [{"name": "r", "scope": "Relay", "messages": 5, "per": "1s"}],
                    }
                ]
            }
        ),
        "spec.limits.overrides[0].rates",
        "cannot differ by namespace",
    ),
    broken(
        "tiny messages",
        relay(limits={"message": {"maxSize": "1000"}}),
        "spec.limits.message.maxSize",
        "from 1Ki to 1Gi",
    ),
    broken(
        "huge messages",
        relay(limits={"message": {"maxSize": "1.1Gi"}}),
        "spec.limits.message.maxSize",
        "from 1Ki to 1Gi",
    ),
    broken(
        "giving up at once",
        relay(retry={"giveUpAfter": "0s", "maxInterval": "0s"}),
        "spec.retry.giveUpAfter",
        "giveUpAfter must be from 1s",
    ),
    broken(
        "pauses longer than patience",
        relay(retry={"giveUpAfter": "1h", "maxInterval": "61m"}),
        "spec.retry.maxInterval",
        "maxInterval must be from 1s",
    ),
    broken(
        "a warning after two months",
        relay(retry={"warnAfter": "1440h"}),
        "spec.retry.warnAfter",
        "warnAfter must be from 0s (never) to 744h.",
    ),
    broken(
        "queue of two kinds",
        relay(queue={"ephemeral": {}, "storage": {}}),
        "spec.queue",
        "exactly one of storage",
    ),
    broken(
        "tiny volume",
        relay(queue={"storage": {"size": "1Mi"}}),
        "spec.queue.storage.size",
        "at least 256Mi",
    ),
    broken(
        "volume that can take nothing",
        relay(queue={"storage": {"size": "64Mi"}}),
        "spec.queue.storage.size",
        "at least 256Mi",
    ),
    broken(
        "messages larger than the volume",
        relay(queue={"storage": {"size": "1Gi"}}, limits={"message": {"maxSize": "1Gi"}}),
        "spec.queue",
        "The queue cannot hold the largest message",
    ),
    broken(
        "messages larger than the ephemeral queue",
        relay(queue={"ephemeral": {"size": "256Mi"}}, limits={"message": {"maxSize": "100Mi"}}),
        "spec.queue",
        "The queue cannot hold the largest message",
    ),
    broken(
        "queue of no kind", relay(queue={"maxMessages": 5}), "spec.queue", "exactly one of storage"
    ),
    broken(
        "same override twice",
        relay(
            limits={
                "overrides": [
                    {
                        "name": "gold",
                        "namespaceSelector": GOLD,
                        "rates": [{"name": "r", "scope": "Sender", "messages": 5, "per": "1s"}],
                    }
                ]
                * 2
            }
        ),
        "spec.limits.overrides",
        "Two overrides have the same name",
    ),
    # --- content and surroundings
    broken(
        "redirect to a domain",
        relay(recipients={"redirectTo": "*@example.com"}),
        "spec.recipients.redirectTo",
        "Write an address as in billing@example.com.",
    ),
    broken(
        "any recipient",
        relay(recipients={"allow": ["*"]}),
        "spec.recipients.allow[0]",
        "for the whole domain.",
    ),
    broken(
        "header with a colon",
        relay(rewrite={"headers": {"add": [{"name": "X-A:", "value": "b"}]}}),
        "spec.rewrite.headers.add[0].name",
        "without a colon",
    ),
    broken(
        "header that brings another",
        relay(rewrite={"headers": {"add": [{"name": "X-A", "value": "b\r\nBcc: c@d.example"}]}}),
        "spec.rewrite.headers.add[0].value",
        "one line of printable ASCII",
    ),
    broken(
        "network and selector",
        relay(
            networkPolicy={"clients": [{"name": "a", "cidr": "10.0.0.0/8", "podSelector": GOLD}]}
        ),
        "spec.networkPolicy.clients[a]",
        "either cidr or selectors",
    ),
    broken(
        "name server by name",
        relay(resolver={"servers": [{"address": "dns.example.com"}]}),
        "spec.resolver.servers[0].address",
        "Must be an IP address.",
    ),
    broken(
        "strange amount of memory",
        relay(template={"resources": {"limits": {"memory": "lots"}}}),
        "spec.template.resources.limits.memory",
        "Write an amount as in 250m,",
    ),
    # --- MailSender
    broken(
        "nobody can log in",
        sender(credentials=None),
        "spec.credentials",
        "Set credentials or serviceAccounts: without",
    ),
    broken(
        "minted and brought",
        sender(credentials={"secretName": "a", "existingSecretRef": {"name": "b"}}),
        "spec.credentials",
        "exactly one of secretName and existingSecretRef",
    ),
    broken(
        "brought and rotated",
        sender(credentials={"existingSecretRef": {"name": "b"}, "rotateEvery": "24h"}),
        "spec.credentials.rotateEvery",
        "Only a generated password can be",
    ),
    broken(
        "rotated all the time",
        sender(credentials={"secretName": "a", "rotateEvery": "59m"}),
        "spec.credentials.rotateEvery",
        "rotateEvery must be at least",
    ),
    broken("sends as anybody", sender(**{"from": ["*"]}), "spec.from[0]", "for the whole domain."),
    broken(
        "strange namespace",
        sender(relayRef={"name": "a", "namespace": "a.b"}),
        "spec.relayRef.namespace",
        "The name of a namespace",
    ),
    # --- MailDomain
    broken(
        "brought and rotated key",
        domain(dkim=[{"selector": "a", "secretName": "b", "rotateEvery": "720h"}]),
        "spec.dkim[a].rotateEvery",
        "Only a key that the operator",
    ),
    broken(
        "key rotated all the time",
        domain(dkim=[{"selector": "a", "rotateEvery": "1h"}]),
        "spec.dkim[a].rotateEvery",
        "rotateEvery must be at least",
    ),
    broken(
        "selector with an underscore",
        domain(dkim=[{"selector": "a_b"}]),
        "spec.dkim[a_b].selector",
        "A DKIM selector must be one",
    ),
    broken(
        "DNS asked all the time",
        domain(verification={"interval": "1s"}),
        "spec.verification.interval",
        "interval must be at least",
    ),
    # --- shapes
    misshapen("typo", relay(hostnam="x"), "spec.hostnam", "did you mean hostname?"),
    misshapen(
        "typo deep down",
        listening(tls={"certificateRef": []}),
        "spec.listeners[one].tls.certificateRef",
        "did you mean certificateRefs?",
    ),
    misshapen(
        "Python's name of a field",
        relay(allowed_senders=[]),
        "spec.allowed_senders",
        "did you mean allowedSenders?",
    ),
    misshapen("no spec", {**relay(), "spec": None}, "spec", "This field is required."),
    misshapen("no host name", relay(hostname=None), "spec.hostname", "This field is required."),
    misshapen("no upstreams", relay(upstreams=[]), "spec.upstreams", "at least 1 entries"),
    misshapen("no replicas", relay(replicas=0), "spec.replicas", "at least 1."),
    misshapen("port in quotes", listening(port="25"), "spec.listeners[one].port", "a whole number"),
    misshapen("port 0", listening(port=0), "spec.listeners[one].port", "Must be at least 1."),
    misshapen("yes", relay(suspend="yes"), "spec.suspend", "Must be true or false."),
    misshapen(
        "unknown mode",
        listening(tls={"mode": "starttls"}),
        "spec.listeners[one].tls.mode",
        "Must be 'None', 'StartTLS' or 'Implicit'; did you mean StartTLS?",
    ),
    misshapen(
        "listener's name too long",
        relay(listeners=[{"name": "a" * 16, "port": 2525}]),
        f"spec.listeners[{'a' * 16}].name",
        "at most 15 characters",
    ),
    misshapen("days", relay(retry={"giveUpAfter": "5d"}), "spec.retry.giveUpAfter", "30s, 10m"),
    misshapen(
        "megabytes",
        relay(limits={"message": {"maxSize": "25MB"}}),
        "spec.limits.message.maxSize",
        "Write a size as in 512Ki,",
    ),
    misshapen(
        "a number for a size",
        relay(limits={"message": {"maxSize": 1048576}}),
        "spec.limits.message.maxSize",
        "Must be a string",
    ),
    misshapen(
        "same name twice",
        relay(upstreams=[{"name": "a", "sandbox": {}}, {"name": "a", "direct": {}}]),
        "spec.upstreams[1]",
        "Duplicate entry",
    ),
    misshapen(
        "same address twice",
        sender(**{"from": ["a@example.com", "a@example.com"]}),
        "spec.from[1]",
        "Duplicate entry",
    ),
)
