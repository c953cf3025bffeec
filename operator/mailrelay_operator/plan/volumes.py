"""The volumes of a relay's replicas: how large they are, and how they grow. Pure.

A claim template cannot be changed, so first every claim is patched, then the StatefulSet is
replaced around its pods.
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
    """The claim after the last replica's, which none of ours should have, and those of all replicas
    when the size that is asked for is not that of the template."""
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
    """What brings the volumes to `size`: the claims that shall grow and, once all of them are asked
    to be exactly so large, the StatefulSet to be replaced around its pods."""
    if volume_octets(stateful_set) in (0, size.octets):
        return ()
    grow: list[Patch] = []
    for ordinal in range(int(stateful_set["spec"].get("replicas", 1))):
        key = _claim(facts, ordinal)
        claim = facts.find(key.kind, key.namespace, key.name)
        if claim is Absence.MISSING:
            continue  # its pod was never started
        # One that may not be read: the patch will say so, in the API server's words.
        asked = 0 if isinstance(claim, Absence) else _requested(claim)
        if asked > size.octets:
            return ()  # said by `size_trouble`
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
    """Why the volumes cannot have this size: they have more already, or cannot grow."""
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
                message=f"{key} has {has}, and a volume cannot shrink: set"
                f" queue.storage.size to at least {has}.",
            )
        failure = facts.failures.get(key)
        if failure is not None:
            has = claim["spec"]["resources"]["requests"]["storage"]
            return Trouble(
                reason=Reason.VOLUME_CANNOT_GROW,
                message=f"{key} cannot grow to {size}: {failure.message} Mail goes on with what"
                f" there is; set queue.storage.size back to {has} to end this.",
            )
    return None


def stranded_trouble(facts: RelayFacts, replicas: int) -> Trouble | None:
    """A claim that an earlier relay of this name left beyond the replicas: mail may be in it, and
    nothing delivers it."""
    key = _claim(facts, replicas)
    found = facts.objects.get(key)
    if found is None or isinstance(found, Absence):
        return None
    return Trouble(
        reason=Reason.QUEUE_STRANDED,
        message=f"{key} is left of an earlier relay of this name, and mail may be in it: set"
        f" replicas to at least {replicas + 1} to have it delivered, or delete the claim if it is"
        " not needed.",
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
    """A size as the API server writes it; one in a notation that we do not know counts as large
    enough."""
    try:
        return parse_quantity(str(text))
    except ValueError:
        return 1 << 62
