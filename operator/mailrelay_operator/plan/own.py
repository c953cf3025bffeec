"""A relay's own objects as they were found: which they are, what its Secrets hold, and what is in
the way of writing them. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator

from mailrelay_operator.api import names
from mailrelay_operator.api.reasons import Reason
from mailrelay_operator.plan.facts import Absence, ObjectKey, RelayFacts
from mailrelay_operator.plan.objects import Manifest, secret_data
from mailrelay_operator.plan.ownership import is_ours
from mailrelay_operator.plan.succession import Authorities, read_authorities
from mailrelay_operator.plan.verdicts import Trouble


def own_objects(namespace: str, name: str) -> frozenset[ObjectKey]:
    """All objects of a relay with derived names, which are read first."""
    found = {("Secret", secret) for secret in names.config_secret_names(name).values()}
    found |= {
        ("Secret", names.ca_secret_name(name)),
        ("Secret", names.admin_secret_name(name)),
        ("ServiceAccount", names.service_account_name(name)),
        ("StatefulSet", names.stateful_set_name(name)),
        ("Service", names.service_name(name)),
        ("Service", names.pods_service_name(name)),
        ("PodDisruptionBudget", names.disruption_budget_name(name)),
        ("NetworkPolicy", names.network_policy_name(name)),
    }
    return frozenset(ObjectKey(kind=kind, namespace=namespace, name=child) for kind, child in found)


def is_missing(facts: RelayFacts, secret: str) -> bool:
    """Whether there is no such Secret in the relay's namespace."""
    return facts.find("Secret", facts.namespace, secret) is Absence.MISSING


def own_secret(facts: RelayFacts, secret: str) -> dict[str, bytes]:
    """The contents of one of the relay's own Secrets; empty if it is missing or someone else's."""
    found = facts.find("Secret", facts.namespace, secret)
    if isinstance(found, Absence) or facts.relay is None or not is_ours(found, facts.relay):
        return {}
    return secret_data(found)


def obstructed(facts: RelayFacts, relay: Manifest) -> Iterator[Trouble]:
    """Objects with the relay's names that cannot or must not be written. The messages advise no
    deletion: a foreign object may be needed, and an unreadable one may be mailrelay's."""
    for key in sorted(own_objects(facts.namespace, facts.name)):
        found = facts.find(key.kind, key.namespace, key.name)
        if found is Absence.FORBIDDEN:
            yield Trouble(
                reason=Reason.FORBIDDEN,
                message=f"The operator is not permitted to read {key}: check its Role in namespace"
                f" {key.namespace}. The object is not changed.",
            )
        elif not isinstance(found, Absence) and not is_ours(found, relay):
            yield Trouble(
                reason=Reason.NOT_OWNED,
                message=f"{key} exists and does not belong to this MailRelay, so it is not changed:"
                " give the MailRelay another name, or move that object out of the way.",
            )


def find_authorities(facts: RelayFacts, relay: Manifest) -> Authorities | Trouble | None:
    """The relay's private CAs; None while there is none."""
    secret = names.ca_secret_name(facts.name)
    found = facts.find("Secret", facts.namespace, secret)
    if isinstance(found, Absence) or not is_ours(found, relay):
        return None
    read = read_authorities(secret_data(found))
    return read or _damaged(facts, secret, "a certificate and key in ca.crt and ca.key")


def read_admin_token(facts: RelayFacts, relay: Manifest) -> str | Trouble:
    """The token of the relay's admin ports; empty while there is none."""
    secret = names.admin_secret_name(facts.name)
    found = facts.find("Secret", facts.namespace, secret)
    if isinstance(found, Absence) or not is_ours(found, relay):
        return ""
    token = secret_data(found).get("token", b"").decode(errors="replace").strip()
    return token or _damaged(facts, secret, "a token")


def _damaged(facts: RelayFacts, secret: str, what: str) -> Trouble:
    return Trouble(
        reason=Reason.DAMAGED,
        message=f"Secret {facts.namespace}/{secret} does not have {what}: restore it from a backup."
        " The running gateways are not affected.",
    )
