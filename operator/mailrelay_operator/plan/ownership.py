"""Whether an existing object with one of mailrelay's names belongs to it. Pure.

Objects that mailrelay did not create are never taken over. One with mailrelay's labels for this
owner whose controller is gone (after a restore the owner has a new UID) is adopted; otherwise the
garbage collector would delete it.
"""

from __future__ import annotations

import hashlib

from mailrelay_operator.api.names import (
    FIELD_MANAGER,
    LABEL_MANAGED_BY,
    LABEL_RELAY,
    LABEL_SENDER,
)
from mailrelay_operator.plan.actions import Patch, key_of
from mailrelay_operator.plan.objects import (
    Manifest,
    controller_of,
    labels_of,
    name_of,
    owner_reference,
    uid_of,
)


def is_ours(found: Manifest, owner: Manifest) -> bool:
    """Whether the object is a child of this MailRelay or MailSender."""
    if is_child(found, owner):
        return True
    controller = controller_of(found)
    labels = labels_of(found)
    label = LABEL_RELAY if owner["kind"] == "MailRelay" else LABEL_SENDER
    ours = labels.get(LABEL_MANAGED_BY) == FIELD_MANAGER and labels.get(label) == label_value(
        name_of(owner)
    )
    if controller is None:
        return ours
    # A controller of the same kind and name but another UID is the owner before it was
    # re-created.
    same = controller.get("kind") == owner["kind"] and controller.get("name") == name_of(owner)
    return ours and same


def adoption(found: Manifest, owner: Manifest) -> Patch | None:
    """The patch that makes a child the child of this owner again; None if it already is, or does
    not belong to mailrelay.

    Not by server-side apply, which would keep the reference to the old controller: two controllers
    are refused.
    """
    if is_child(found, owner) or not is_ours(found, owner) or not uid_of(found):
        return None
    return Patch(
        owner=key_of(owner),
        target=key_of(found),
        uid=uid_of(found),
        patch={"metadata": {"ownerReferences": [owner_reference(owner)]}},
    )


def is_child(found: Manifest, owner: Manifest) -> bool:
    """Whether exactly this owner is the object's controller."""
    controller = controller_of(found)
    return controller is not None and controller.get("uid") == uid_of(owner)


def label_value(name: str) -> str:
    """A name as the value of a label, which has at most 63 characters: a longer one is replaced by
    its hash."""
    return name if len(name) <= 63 else hashlib.sha256(name.encode()).hexdigest()[:40]
