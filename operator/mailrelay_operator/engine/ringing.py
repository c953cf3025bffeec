"""Maps a change to the keys that it concerns, and their urgency. A change of something that no plan
reads (the operator's own status, a foreign annotation) concerns none. Pure.

What was there and has changed may have lost a permission; what is new can only gain one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mailrelay_gateway.contract.documents import Verifier
from mailrelay_operator.engine.backlog import Key, Urgency
from mailrelay_operator.engine.store import Change, Name, Store, relay_of_pod, relay_of_sender
from mailrelay_operator.plan.facts import SenderLogin
from mailrelay_operator.plan.objects import (
    Manifest,
    annotations_of,
    generation_of,
    labels_of,
    name_of,
    namespace_of,
    uid_of,
)

#: A key, and how urgent it is.
Ring = tuple[Key, Urgency]


def concerned(change: Change, store: Store) -> Iterator[Ring]:
    """The keys to reconcile after this change."""
    if change.old is None and change.new is None:
        return
    match change.kind:
        case "MailRelay":
            if _is_news(change):
                yield relay_key(*_name(change.either)), _urgency(change)
        case "MailSender":
            yield from _of_sender(change)
        case "MailDomain":
            if _is_news(change):
                yield _key("MailDomain", _name(change.either)), Urgency.ROUTINE
        case "Namespace":
            yield from _of_namespace(change, store)
        case "Pod" | "StatefulSet":
            yield from _of_running(change)
        case _:
            return


def relay_key(namespace: str, name: str) -> Key:
    """The key of a relay, which may exist only as a reference of MailSenders."""
    return Key(kind="MailRelay", namespace=namespace, name=name)


def urgency_of_login(before: Sequence[Verifier], after: SenderLogin) -> Urgency:
    """The urgency of a relay's round after the plan of one of its senders has changed its login: a
    password that was valid may be so no longer."""
    lost = any(one not in after.verifiers for one in before)
    return Urgency.REVOKING if lost else Urgency.AWAITED


def sender_key(sender: Manifest) -> Key:
    """The key of a MailSender."""
    return _key("MailSender", _name(sender))


def _of_sender(change: Change) -> Iterator[Ring]:
    """A new sender waits for its first login; a deleted or changed one may have lost a permission,
    which its relay takes away.
    """
    if _is_news(change):
        relays = {relay_of_sender(one) for one in (change.old, change.new) if one is not None}
        for relay in sorted(relays):
            yield relay_key(*relay), _urgency(change)
        yield sender_key(change.either), Urgency.AWAITED if change.new else Urgency.ROUTINE
        return
    assert change.old is not None  # otherwise it would be new
    assert change.new is not None
    # The store has only mailrelay's annotations, which revoke and adopt.
    if annotations_of(change.old) != annotations_of(change.new):
        yield sender_key(change.new), Urgency.REVOKING


def _of_namespace(change: Change, store: Store) -> Iterator[Ring]:
    """Labels decide who may send: removing one revokes the permission."""
    before = labels_of(change.old) if change.old is not None else {}
    after = labels_of(change.new) if change.new is not None else {}
    if before != after:
        for relay in store.relays_with_senders_in(name_of(change.either)):
            yield relay_key(*relay), _urgency(change)


def _of_running(change: Change) -> Iterator[Ring]:
    relays = {relay_of_pod(change.old), relay_of_pod(change.new)}
    if _running(change.old) != _running(change.new):
        for relay in relays:
            if relay is not None:
                yield relay_key(*relay), Urgency.ROUTINE


def _running(found: Manifest | None) -> tuple[object, ...] | None:
    """What a plan reads from a pod or StatefulSet, except the operator's own annotations."""
    if found is None:
        return None
    status = found.get("status") or {}
    return (
        uid_of(found),
        generation_of(found),
        found["metadata"].get("deletionTimestamp"),
        found["metadata"].get("ownerReferences"),
        status.get("podIP"),
        [one.get("status") for one in status.get("conditions") or () if one.get("type") == "Ready"],
        [
            status.get(key)
            for key in ("replicas", "updatedReplicas", "currentRevision", "updateRevision")
        ],
        status.get("observedGeneration"),
    )


def _urgency(change: Change) -> Urgency:
    return Urgency.AWAITED if change.old is None else Urgency.REVOKING


def _is_news(change: Change) -> bool:
    if change.old is None or change.new is None:
        return True
    return _identity(change.old) != _identity(change.new)


def _identity(found: Manifest) -> tuple[object, ...]:
    return uid_of(found), generation_of(found), found["metadata"].get("deletionTimestamp")


def _name(found: Manifest) -> Name:
    return namespace_of(found), name_of(found)


def _key(kind: str, name: Name) -> Key:
    return Key(kind=kind, namespace=name[0], name=name[1])
