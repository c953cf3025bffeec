"""Facts from files and a data folder instead of a cluster. Secrets that a plan creates or applies
become facts of the next plan; its other actions have no effect standalone. Pure.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from datetime import datetime

from mailrelay_operator.api.mailsender import MailSender
from mailrelay_operator.api.unsupported import unsupported_fields
from mailrelay_operator.cli.inventory import Inventory, Key, relay_of
from mailrelay_operator.plan.actions import Action, Apply, Create
from mailrelay_operator.plan.facts import ObjectKey, Place, RelayFacts, SeenSender
from mailrelay_operator.plan.objects import Manifest, labels_of, name_of, namespace_of

_UIDS = uuid.uuid5(uuid.NAMESPACE_URL, "mailrelay.dev/standalone/kept")


def facts_of(
    inventory: Inventory,
    relay: Key,
    store: Mapping[ObjectKey, Manifest],
    *,
    senders: tuple[SeenSender, ...],
    place: Place,
    now: datetime,
) -> RelayFacts:
    """The facts as from a cluster. An object in the files takes precedence over a stored one of the
    same name; the plan then reports that it does not belong to mailrelay."""
    objects: dict[ObjectKey, Manifest] = dict(store)
    for one in (*inventory.secrets.values(), *inventory.config_maps.values()):
        objects[key_of(one)] = one
    return RelayFacts(
        namespace=relay[0],
        name=relay[1],
        relay=inventory.relays.get(relay),
        now=now,
        place=place,
        senders=senders,
        namespaces={
            namespace: labels_of(inventory.namespace(namespace))
            for namespace in {namespace_of(sender.manifest) for sender in senders}
        },
        objects=objects,
    )


def senders_of(inventory: Inventory) -> tuple[SeenSender, ...]:
    """The MailSenders, each parsed once."""
    return tuple(
        SeenSender(manifest=one, model=model)
        if isinstance(model := inventory.models["MailSender", key], MailSender)
        and not unsupported_fields(model)
        else SeenSender.of(one)
        for key, one in inventory.senders.items()
    )


def settle(store: dict[ObjectKey, Manifest], actions: Iterable[Action]) -> bool:
    """Store the Secrets of a plan as a cluster would; whether that changed anything."""
    changed = False
    for action in actions:
        if action.target.kind != "Secret":
            continue
        before = store.get(action.target)
        if isinstance(action, Create):
            after = before or created(action.manifest)
        elif isinstance(action, Apply):
            after = applied(before, action.manifest)
        else:
            continue
        if after != before:
            store[action.target] = after
            changed = True
    return changed


def created(secret: Manifest) -> Manifest:
    """A Secret after POST: with a UID."""
    uid = str(uuid.uuid5(_UIDS, str(key_of(secret))))
    return {**secret, "metadata": {**secret["metadata"], "uid": uid}}


def applied(before: Manifest | None, secret: Manifest) -> Manifest:
    """A Secret after server-side apply by its only field manager."""
    if before is None:
        return created(secret)
    metadata = {**secret["metadata"], "uid": before["metadata"]["uid"]}
    metadata.pop("resourceVersion", None)
    return {**secret, "metadata": metadata}


def of_relay(inventory: Inventory, relay: Key) -> Inventory:
    """The inventory without other relays and their objects."""
    relays = {key: one for key, one in inventory.relays.items() if key == relay}
    senders = {key: one for key, one in inventory.senders.items() if relay_of(one) == relay}
    domains = {key: one for key, one in inventory.domains.items() if relay_of(one) == relay}
    kept = {"MailRelay": relays, "MailSender": senders, "MailDomain": domains}
    return Inventory(
        relays=relays,
        senders=senders,
        domains=domains,
        secrets=inventory.secrets,
        config_maps=inventory.config_maps,
        namespaces=inventory.namespaces,
        documents=inventory.documents,
        models={
            (kind, key): model
            for (kind, key), model in inventory.models.items()
            if key in kept[kind]
        },
    )


def key_of(manifest: Manifest) -> ObjectKey:
    """The key of an object."""
    return ObjectKey(
        kind=manifest["kind"], namespace=namespace_of(manifest), name=name_of(manifest)
    )


def secret_key(namespace: str, name: str) -> ObjectKey:
    """The key of a Secret."""
    return ObjectKey(kind="Secret", namespace=namespace, name=name)
