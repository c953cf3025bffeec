"""The queue of a relay: where messages are stored, and what is immutable about it. Pure.

A StatefulSet's claim templates are immutable and the volumes hold mail: hence the transition rules.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mailrelay_operator.api.grammar import Count, ObjectName
from mailrelay_operator.api.metadata import NamedRef
from mailrelay_operator.api.quantities import Quantity
from mailrelay_operator.api.shape import Struct, TextRule, rule, transition

DEFAULT_SIZE = "10Gi"
SMALLEST_SIZE = "256Mi"
#: What a volume needs besides messages: the gateway accepts none below 128 MiB of free space, and
#: the file system's own structures, the database and the reserve for removals take the rest.
SPARE_SIZE = "192Mi"
DEFAULT_EPHEMERAL_SIZE = "1Gi"

VolumeSize = Annotated[
    Quantity,
    TextRule(
        cel=f"quantity(self).compareTo(quantity('{SMALLEST_SIZE}')) >= 0",
        message=f"The size of a queue must be at least {SMALLEST_SIZE}.",
        holds=lambda size: size.octets >= Quantity(SMALLEST_SIZE).octets,
    ),
]


class Storage(Struct):
    """A persistent volume for each replica."""

    size: VolumeSize = Field(
        Quantity(DEFAULT_SIZE),
        description="Size of each replica's volume: at least the largest message plus 192Mi."
        " It can grow later if the StorageClass allows expansion; a volume cannot shrink.",
    )
    storage_class_name: ObjectName | None = Field(
        None,
        description="StorageClass of the volumes. Default: the cluster's default. Immutable.",
    )
    access_mode: Literal["ReadWriteOnce", "ReadWriteOncePod"] = Field(
        "ReadWriteOnce", description="Access mode of the volumes. Immutable."
    )


class Ephemeral(Struct):
    """No volume: queued mail is lost with the pod."""

    size: VolumeSize = Field(
        Quantity(DEFAULT_EPHEMERAL_SIZE),
        description="Space on the node's disk for the queue, reserved by the pod's request for"
        " ephemeral storage. The gateway answers 452 before it is full, because the kubelet"
        " evicts a pod that uses more.",
    )


class Postgres(Struct):
    """A queue in PostgreSQL, from which any replica may deliver."""

    secret_ref: NamedRef = Field(
        description="Secret with the key uri, such as postgresql://user:password@host/db."
    )


class Queue(Struct):
    """Where messages are queued until they are delivered; exactly one of storage, ephemeral and
    postgres.
    """

    storage: Storage | None = Field(
        None, description="On a persistent volume for each replica. The default, with 10Gi."
    )
    ephemeral: Ephemeral | None = Field(
        None,
        description="In the pod's own file system: lost with the pod. The condition Durable"
        " says so.",
    )
    postgres: Postgres | None = Field(None, description="In PostgreSQL.")
    max_messages: Count | None = Field(
        None,
        description="Maximum number of queued messages; above it 452. Default: as many as fit.",
    )

    @rule(
        "[has(self.storage), has(self.ephemeral), has(self.postgres)].exists_one(given, given)",
        "Set exactly one of storage, ephemeral and postgres.",
    )
    def is_exactly_one_kind(self) -> bool:
        """Make sure there is exactly one kind of queue."""
        return sum(kind is not None for kind in (self.storage, self.ephemeral, self.postgres)) == 1

    @transition(
        "has(self.ephemeral) == has(oldSelf.ephemeral) && has(self.postgres) =="
        " has(oldSelf.postgres)",
        "The kind of queue is immutable, since it may hold mail: create another MailRelay.",
    )
    def keeps_its_kind(self, old: Queue) -> bool:
        """Make sure no queue is left behind."""
        return self.kind == old.kind

    @transition(
        """(has(self.storage) && has(self.storage.storageClassName)
        ? self.storage.storageClassName : '')
        == (has(oldSelf.storage) && has(oldSelf.storage.storageClassName)
        ? oldSelf.storage.storageClassName : '')""",
        "storageClassName is immutable, since existing volumes keep theirs: create another"
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

    @property
    def size(self) -> Quantity | None:
        """What a replica may keep of queued mail on a disk; None: it keeps it elsewhere."""
        match self.kind:
            case "ephemeral":
                return self.ephemeral.size if self.ephemeral is not None else None
            case "storage":
                return self.volume.size
            case "postgres":
                return None


#: Where messages wait when the spec does not say: stored so, and thereby seen by everybody.
DEFAULT_QUEUE = Queue(storage=Storage())
