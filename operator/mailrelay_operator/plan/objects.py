"""Reading and writing Kubernetes objects as plain dictionaries: names, labels, owners, data. Pure.

Accessors for builders and checks; no decisions.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

#: A Kubernetes object as in JSON.
Manifest = dict[str, Any]


def name_of(manifest: Manifest) -> str:
    """The object's name."""
    return str(manifest["metadata"]["name"])


def namespace_of(manifest: Manifest) -> str:
    """The object's namespace; empty for a cluster-scoped object."""
    return str(manifest["metadata"].get("namespace", ""))


def uid_of(manifest: Manifest) -> str:
    """The object's UID; empty standalone."""
    return str(manifest["metadata"].get("uid", ""))


def version_of(manifest: Manifest) -> str:
    """The object's resourceVersion."""
    return str(manifest["metadata"].get("resourceVersion", ""))


def generation_of(manifest: Manifest) -> int:
    """The object's generation, which counts changes of its spec."""
    return int(manifest["metadata"].get("generation", 0))


def labels_of(manifest: Manifest) -> Mapping[str, str]:
    """The object's labels."""
    return manifest["metadata"].get("labels") or {}


def annotations_of(manifest: Manifest) -> Mapping[str, str]:
    """The object's annotations."""
    return manifest["metadata"].get("annotations") or {}


def created_at(manifest: Manifest) -> str:
    """When the object was created, RFC 3339; empty standalone."""
    return str(manifest["metadata"].get("creationTimestamp", ""))


def is_being_deleted(manifest: Manifest) -> bool:
    """Whether the object has a deletionTimestamp."""
    return bool(manifest["metadata"].get("deletionTimestamp"))


def controller_of(manifest: Manifest) -> Manifest | None:
    """The owner reference of the object's controller, if it has one."""
    for reference in manifest["metadata"].get("ownerReferences") or ():
        if reference.get("controller"):
            return dict(reference)
    return None


def owner_reference(owner: Manifest) -> Manifest:
    """The owner reference of a child to its controller, for the garbage collector."""
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": name_of(owner),
        "uid": uid_of(owner),
        "controller": True,
        "blockOwnerDeletion": False,
    }


def secret_data(secret: Manifest) -> dict[str, bytes]:
    """The contents of a Secret: `data` (base64) and, as in a file, `stringData`, which takes
    precedence. Invalid base64 is omitted."""
    found: dict[str, bytes] = {}
    for key, value in (secret.get("data") or {}).items():
        try:
            found[key] = base64.b64decode(value or "", validate=True)
        except (binascii.Error, ValueError):
            continue
    for key, value in (secret.get("stringData") or {}).items():
        found[key] = str(value).encode()
    return found


def config_map_data(config_map: Manifest) -> dict[str, bytes]:
    """The contents of a ConfigMap: `data` as UTF-8 and `binaryData` (base64)."""
    found = {key: str(value).encode() for key, value in (config_map.get("data") or {}).items()}
    return found | secret_data({"data": config_map.get("binaryData")})


def encoded(data: Mapping[str, bytes]) -> dict[str, str]:
    """A Secret's `data`: base64, sorted by key."""
    return {key: base64.b64encode(data[key]).decode() for key in sorted(data)}
