"""PURE: the volumes of a relay's replicas: how large they are, and how they grow.

A claim template cannot be changed, so first every claim is patched, then the StatefulSet is
replaced around its pods.
"""

from __future__ import annotations

from collections.abc import Iterator

from mailrelay_operator.api import names
from mailrelay_operator.api.mailrelay import MailRelay
from mailrelay_operator.api.quantities import Quantity, parse_quantity
from mailrelay_operator.plan.facts import Absence, ClaimGrowth, ObjectKey, RelayFacts
from mailrelay_operator.plan.objects import Manifest, name_of, uid_of
from mailrelay_operator.plan.verdicts import read_relay


def volume_octets(stateful_set: Manifest | None) -> int:
    """The size in the claim template of the StatefulSet as it is; 0: it has none, or there is no
    StatefulSet."""
    for template in (stateful_set or {}).get("spec", {}).get("volumeClaimTemplates") or ():
        if name_of(template) == names.CLAIM_TEMPLATE:
            return _octets(template["spec"]["resources"]["requests"]["storage"])
    return 0


def claimed_size(stateful_set: Manifest | None) -> str:
    """The size in the StatefulSet's claim template, as it is written there: it cannot be changed in
    place."""
    for template in (stateful_set or {}).get("spec", {}).get("volumeClaimTemplates") or ():
        if name_of(template) == names.CLAIM_TEMPLATE:
            return str(template["spec"]["resources"]["requests"]["storage"])
    return ""


def claims_to_read(facts: RelayFacts) -> Iterator[ObjectKey]:
    """The claims of all replicas, when the volumes shall grow."""
    found = facts.find("StatefulSet", facts.namespace, names.stateful_set_name(facts.name))
    newest = read_relay(facts.relay) if facts.relay is not None else None
    if isinstance(found, Absence) or not isinstance(newest, MailRelay):
        return
    octets = volume_octets(found)
    if not octets or newest.spec.queue.volume.size.octets <= octets:
        return
    for ordinal in range(int(found["spec"].get("replicas", 1))):
        name = names.claim_name(facts.name, ordinal)
        yield ObjectKey(kind="PersistentVolumeClaim", namespace=facts.namespace, name=name)


def growth(
    facts: RelayFacts, stateful_set: Manifest, size: Quantity
) -> tuple[tuple[ClaimGrowth, ...], tuple[Manifest, ...]]:
    """The claims that shall grow to `size` and, once all of them are asked to, the StatefulSet
    to be replaced, its pods untouched. A smaller size is refused by CEL and ignored here."""
    if not 0 < volume_octets(stateful_set) < size.octets:
        return (), ()
    grow: list[ClaimGrowth] = []
    for ordinal in range(int(stateful_set["spec"].get("replicas", 1))):
        name = names.claim_name(facts.name, ordinal)
        claim = facts.find("PersistentVolumeClaim", facts.namespace, name)
        if claim is Absence.MISSING:
            continue  # its pod was never started
        if isinstance(claim, Absence):
            # May not be read: the patch will say so, in the API server's words.
            grow.append(ClaimGrowth(name=name, uid="", size=str(size)))
        elif _octets(claim["spec"]["resources"]["requests"]["storage"]) < size.octets:
            grow.append(ClaimGrowth(name=name, uid=uid_of(claim), size=str(size)))
    return tuple(grow), () if grow else (stateful_set,)


def _octets(text: object) -> int:
    """A size as the API server writes it; one in a notation that we do not know counts as large
    enough."""
    try:
        return parse_quantity(str(text))
    except ValueError:
        return 1 << 62
