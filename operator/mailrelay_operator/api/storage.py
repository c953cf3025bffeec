"""The queue of a relay: where messages wait, and what may never change about it.

A StatefulSet cannot change its claim templates, and mail lies on the volumes: hence the transition
rules.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mailrelay_operator.api.grammar import Count, ObjectName
from mailrelay_operator.api.metadata import NamedRef
from mailrelay_operator.api.quantities import Quantity
from mailrelay_operator.api.shape import Struct, TextRule, rule, transition

DEFAULT_SIZE = "10Gi"
SMALLEST_SIZE = "64Mi"

VolumeSize = Annotated[
    Quantity,
    TextRule(
        cel=f"quantity(self).compareTo(quantity('{SMALLEST_SIZE}')) >= 0",
        message=f"A queue needs a volume of at least {SMALLEST_SIZE}.",
        holds=lambda size: size.octets >= Quantity(SMALLEST_SIZE).octets,
    ),
]


class Storage(Struct):
    """A persistent volume for each replica."""

    size: VolumeSize = Field(
        Quantity(DEFAULT_SIZE),
        description="Size of each replica's volume. It can grow later, never shrink.",
    )
    storage_class_name: ObjectName | None = Field(
        None,
        description="StorageClass of the volumes. Left out: the cluster's default. It can never be"
        " changed.",
    )
    access_mode: Literal["ReadWriteOnce", "ReadWriteOncePod"] = Field(
        "ReadWriteOnce", description="Access mode of the volumes. It can never be changed."
    )


class Ephemeral(Struct):
    """No volume: what waits is lost with the pod."""


class Postgres(Struct):
    """A queue in PostgreSQL, from which any replica may deliver."""

    secret_ref: NamedRef = Field(
        description="Secret with the key uri, such as postgresql://user:password@host/db."
    )


class Queue(Struct):
    """Where messages wait until they are delivered; at most one of storage, ephemeral and
    postgres.
    """

    storage: Storage | None = Field(
        None, description="On a persistent volume for each replica. This is the default, with 10Gi."
    )
    ephemeral: Ephemeral | None = Field(
        None,
        description="In the pod's own file system: lost with the pod. The condition Durable"
        " says so.",
    )
    postgres: Postgres | None = Field(None, description="In PostgreSQL.")
    max_messages: Count | None = Field(
        None,
        description="Messages that may wait; beyond it 452. Left out: as many as the volume holds.",
    )

    @rule(
        "[has(self.storage), has(self.ephemeral), has(self.postgres)].filter(given,"
        " given).size() <= 1",
        "Name at most one of storage, ephemeral and postgres.",
    )
    def is_at_most_one_kind(self) -> bool:
        """Make sure it is clear where messages wait."""
        return sum(kind is not None for kind in (self.storage, self.ephemeral, self.postgres)) <= 1

    @transition(
        "has(self.ephemeral) == has(oldSelf.ephemeral) && has(self.postgres) =="
        " has(oldSelf.postgres)",
        "The kind of queue cannot be changed, since mail may lie in it: make another MailRelay.",
    )
    def keeps_its_kind(self, old: Queue) -> bool:
        """Make sure no queue is left behind."""
        return self.kind == old.kind

    @transition(
        """(has(self.storage) && has(self.storage.storageClassName)
        ? self.storage.storageClassName : '')
        == (has(oldSelf.storage) && has(oldSelf.storage.storageClassName)
        ? oldSelf.storage.storageClassName : '')""",
        "The storage class cannot be changed, since a volume keeps its own: make another"
        " MailRelay.",
    )
    def keeps_its_storage_class(self, old: Queue) -> bool:
        """Make sure the claim template stays as it is."""
        return self.volume.storage_class_name == old.volume.storage_class_name

    @transition(
        """(has(self.storage) ? self.storage.accessMode : 'ReadWriteOnce')
        == (has(oldSelf.storage) ? oldSelf.storage.accessMode : 'ReadWriteOnce')""",
        "The access mode cannot be changed, since a volume keeps its own: make another MailRelay.",
    )
    def keeps_its_access_mode(self, old: Queue) -> bool:
        """Make sure the claim template stays as it is."""
        return self.volume.access_mode == old.volume.access_mode

    @transition(
        f"""quantity(has(self.storage) ? self.storage.size : '{DEFAULT_SIZE}').compareTo(
        quantity(has(oldSelf.storage) ? oldSelf.storage.size : '{DEFAULT_SIZE}')) >= 0""",
        "A volume can only grow: set storage.size to at least what it was.",
    )
    def only_grows(self, old: Queue) -> bool:
        """Make sure no claim is asked to shrink."""
        return self.volume.size.octets >= old.volume.size.octets

    @property
    def kind(self) -> Literal["storage", "ephemeral", "postgres"]:
        """Where messages wait."""
        if self.ephemeral is not None:
            return "ephemeral"
        return "storage" if self.postgres is None else "postgres"

    @property
    def volume(self) -> Storage:
        """The volume as given or by default; meaningful for the kind storage."""
        return Storage() if self.storage is None else self.storage
