"""The volumes of a relay's replicas: their size and expansion. Pure.

A claim template is immutable, so every claim is patched first, then the StatefulSet is replaced
while its pods keep running.
"""

from __future__ import annotations

from collections.abc import Iterator

from mailrelay_operator.api import names
from mailrelay_operator.api.mailrelay import MailRelay
from mailrelay_operator.api.quantities import Quantity, parse_quantity
from mailrelay_operator.api.reasons import Reason
from mailrelay_operator.plan.actions import Action, Delete, Patch, key_of
from mailrelay_operator.plan.facts import Absence, ObjectKey, RelayFacts
from mailrelay_operator.plan.objects import Manifest, name_of, uid_of
from mailrelay_operator.plan.verdicts import Trouble, read_relay


def volume_octets(stateful_set: Manifest | None) -> int:
    """The size in the StatefulSet's claim template, in octets; 0 if there is none."""
    for template in (stateful_set or {}).get("spec", {}).get("volumeClaimTemplates") or ():
        if name_of(template) == names.CLAIM_TEMPLATE:
            return _octets(template["spec"]["resources"]["requests"]["storage"])
    return 0


def claimed_size(stateful_set: Manifest | None) -> str:
    """The size in the StatefulSet's claim template, as written there."""
    for template in (stateful_set or {}).get("spec", {}).get("volumeClaimTemplates") or ():
        if name_of(template) == names.CLAIM_TEMPLATE:
            return str(template["spec"]["resources"]["requests"]["storage"])
    return ""


def claims_to_read(facts: RelayFacts) -> Iterator[ObjectKey]:
    """The claim after the last replica's, which should not exist, and those of all replicas if the
    requested size is not the template's."""
    found = facts.find("StatefulSet", facts.namespace, names.stateful_set_name(facts.name))
    newest = read_relay(facts.relay) if facts.relay is not None else None
    if isinstance(newest, MailRelay) and newest.spec.queue.kind == "storage":
        running = 0 if isinstance(found, Absence) else int(found["spec"].get("replicas", 1))
        yield _claim(facts, max(newest.spec.replicas, running))
    if isinstance(found, Absence) or not isinstance(newest, MailRelay):
        return
    octets = volume_octets(found)
    if not octets or newest.spec.queue.volume.size.octets == octets:
        return
    for ordinal in range(int(found["spec"].get("replicas", 1))):
        yield _claim(facts, ordinal)


def resizing(
    facts: RelayFacts, relay: Manifest, stateful_set: Manifest, size: Quantity
) -> tuple[Action, ...]:
    """The actions that expand the volumes to `size`: patches of claims and, once all request
    exactly that size, the replacement of the StatefulSet without its pods."""
    if volume_octets(stateful_set) in (0, size.octets):
        return ()
    grow: list[Patch] = []
    for ordinal in range(int(stateful_set["spec"].get("replicas", 1))):
        key = _claim(facts, ordinal)
        claim = facts.find(key.kind, key.namespace, key.name)
        if claim is Absence.MISSING:
            continue  # its pod was never started
        # An unreadable claim: the patch will fail with the API server's message.
        asked = 0 if isinstance(claim, Absence) else _requested(claim)
        if asked > size.octets:
            return ()  # reported by `size_trouble`
        if asked < size.octets:
            request = {"resources": {"requests": {"storage": str(size)}}}
            grow.append(
                Patch(
                    owner=key_of(relay),
                    target=key,
                    uid="" if isinstance(claim, Absence) else uid_of(claim),
                    patch={"spec": request},
                )
            )
    if grow:
        return tuple(grow)
    return (
        Delete(
            owner=key_of(relay),
            target=key_of(stateful_set),
            uid=uid_of(stateful_set),
            orphan=True,
        ),
    )


def size_trouble(
    facts: RelayFacts, stateful_set: Manifest | None, size: Quantity
) -> Trouble | None:
    """Why the volumes cannot have this size: they are larger already, or cannot grow."""
    if stateful_set is None or volume_octets(stateful_set) in (0, size.octets):
        return None
    for ordinal in range(int(stateful_set["spec"].get("replicas", 1))):
        key = _claim(facts, ordinal)
        claim = facts.find(key.kind, key.namespace, key.name)
        if isinstance(claim, Absence):
            continue
        if _requested(claim) > size.octets:
            has = claim["spec"]["resources"]["requests"]["storage"]
            return Trouble(
                reason=Reason.VOLUME_CANNOT_SHRINK,
                message=f"{key} has {has}, but a volume cannot shrink: set"
                f" queue.storage.size to at least {has}.",
            )
        failure = facts.failures.get(key)
        if failure is not None:
            has = claim["spec"]["resources"]["requests"]["storage"]
            return Trouble(
                reason=Reason.VOLUME_CANNOT_GROW,
                message=f"{key} cannot grow to {size}: {failure.message} The volume keeps its"
                f" size; set"
                f" queue.storage.size back to {has} to clear this condition.",
            )
    return None


def stranded_trouble(facts: RelayFacts, replicas: int) -> Trouble | None:
    """A claim that an earlier relay of this name left beyond the replicas: it may hold mail, which
    is not delivered."""
    key = _claim(facts, replicas)
    found = facts.objects.get(key)
    if found is None or isinstance(found, Absence):
        return None
    return Trouble(
        reason=Reason.QUEUE_STRANDED,
        message=f"{key} belongs to an earlier relay of this name and may hold mail: set replicas to"
        f" at least {replicas + 1} to deliver it, or delete the claim if it is not needed.",
    )


def _claim(facts: RelayFacts, ordinal: int) -> ObjectKey:
    return ObjectKey(
        kind="PersistentVolumeClaim",
        namespace=facts.namespace,
        name=names.claim_name(facts.name, ordinal),
    )


def _requested(claim: Manifest) -> int:
    return _octets(claim["spec"]["resources"]["requests"]["storage"])


def _octets(text: object) -> int:
    """The octets of a size as the API server writes it; an unknown notation counts as large
    enough."""
    try:
        return parse_quantity(str(text))
    except ValueError:
        return 1 << 62
