"""The metadata of every object of a relay: name, namespace, labels, owner. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from mailrelay_operator.api.names import relay_labels
from mailrelay_operator.plan.objects import Manifest, name_of, namespace_of, owner_reference


def child(
    relay: Manifest,
    *,
    api_version: str,
    kind: str,
    name: str,
    annotations: Mapping[str, str] | None = None,
) -> Manifest:
    """The skeleton of an object that is owned by this MailRelay and garbage-collected with it."""
    metadata: Manifest = {
        "name": name,
        "namespace": namespace_of(relay),
        "labels": relay_labels(name_of(relay)),
        "ownerReferences": [owner_reference(relay)],
    }
    if annotations:
        metadata["annotations"] = dict(annotations)
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata}
