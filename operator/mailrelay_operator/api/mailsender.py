"""MailSender: its spec and status, for an app team. Pure.

A sender names a relay; the relay admits its namespace (admission.py). Its credentials are either
written to a Secret or read from an existing one.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mailrelay_operator.api.conditions import (
    GENERATION_IN_FORCE,
    OBSERVED_GENERATION,
    Condition,
    Endpoint,
    initial_conditions,
)
from mailrelay_operator.api.grammar import Flag, MailboxPattern, ObjectName
from mailrelay_operator.api.limits import SenderLimits
from mailrelay_operator.api.metadata import API_VERSION, NamedRef, ObjectMeta, RelayRef
from mailrelay_operator.api.quantities import Duration
from mailrelay_operator.api.shape import ATOMIC, DISTINCT, NAMED, Observed, Struct, rule, transition


class Credentials(Struct):
    """The password; exactly one of secretName and existingSecretRef."""

    secret_name: ObjectName | None = Field(
        None,
        description="Name of the Secret that the operator writes: host, port, username, a generated"
        " password, tls, uri and ca.crt, with the keys of the Service Binding specification. It"
        " must not exist yet.",
    )
    rotate_every: Duration | None = Field(
        None,
        description="How often a new password is generated; the previous one stays valid until"
        " the next rotation. Default: never.",
    )
    existing_secret_ref: NamedRef | None = Field(
        None,
        description="Secret with the keys username and password, for example from a previous relay;"
        ' read, never written. It needs the label mailrelay.dev/credentials: "true". A username'
        " of the form NAMESPACE.NAME is reserved for that namespace.",
    )

    @rule(
        "has(self.secretName) != has(self.existingSecretRef)",
        "Set exactly one of secretName and existingSecretRef.",
    )
    def are_minted_or_brought(self) -> bool:
        """Make sure the password has exactly one source."""
        return (self.secret_name is None) != (self.existing_secret_ref is None)

    @rule(
        "!has(self.rotateEvery) || has(self.secretName)",
        "Only a generated password can be rotated: rotateEvery requires secretName.",
        field="rotateEvery",
    )
    def rotates_only_what_is_minted(self) -> bool:
        """Make sure rotateEvery is not ignored."""
        return self.rotate_every is None or self.secret_name is not None

    @rule(
        "!has(self.rotateEvery) || duration(self.rotateEvery) >= duration('1h')",
        "rotateEvery must be at least 1h, so that clients can follow.",
        field="rotateEvery",
    )
    def rotates_slowly(self) -> bool:
        """Make sure pods have time to read the new password while the old one is still valid."""
        return self.rotate_every is None or self.rotate_every.seconds >= 3600


class MailSenderSpec(Struct):
    """Who sends, as which addresses, through which relay."""

    relay_ref: RelayRef = Field(description="The MailRelay to send through. Immutable.")
    from_: tuple[MailboxPattern, ...] = Field(
        min_length=1,
        max_length=64,
        description="Addresses to send as: billing@example.com, or *@example.com. Envelope"
        " sender and header From must both match. The relay must allow them.",
        json_schema_extra=DISTINCT,
    )
    credentials: Credentials | None = Field(
        None, description="The password to log in with. If unset, ServiceAccount tokens only."
    )
    service_accounts: tuple[NamedRef, ...] = Field(
        (),
        max_length=32,
        description="ServiceAccounts of this namespace whose pods may log in with a"
        " projected token.",
        json_schema_extra=NAMED,
    )
    limits: SenderLimits | None = Field(
        None, description="Additional limits; they can only lower the relay's."
    )
    class_: Literal["Transactional", "Bulk"] = Field(
        "Transactional",
        description="Class of the mail. While both wait for an upstream, Transactional has nine of"
        " ten turns. A message lowers its own class with the header field X-Mailrelay-Class: bulk,"
        " which is removed; none raises it.",
    )
    suspend: Flag = Field(
        False,
        description="Refuse new mail (450 4.7.1); logins succeed, and queued mail is still"
        " delivered.",
    )

    @rule(
        "has(self.credentials) || (has(self.serviceAccounts) && size(self.serviceAccounts) > 0)",
        "Set credentials or serviceAccounts: without either, no client can log in.",
        field="credentials",
    )
    def can_log_in(self) -> bool:
        """Make sure a client can log in as the sender."""
        return self.credentials is not None or bool(self.service_accounts)

    @transition(
        # `namespace` is reserved in CEL, so Kubernetes escapes the field's name with underscores.
        """self.relayRef.name == oldSelf.relayRef.name && (!has(self.relayRef.__namespace__)
        || !has(oldSelf.relayRef.__namespace__)
        || self.relayRef.__namespace__ == oldSelf.relayRef.__namespace__)""",
        "relayRef is immutable: create another MailSender, move the workload, then delete this"
        " one.",
        field="relayRef",
    )
    def keeps_its_relay(self, old: MailSenderSpec) -> bool:
        """Make sure no credential is left behind in another relay. Only the chart's admission
        policy can tell whether a namespace that is added is the object's own.
        """
        return not self.relay_ref.is_changed_from(old.relay_ref)


class Usage(Observed):
    """Usage of a limit; updated at most once a minute."""

    unit: Literal["Messages", "Recipients"] = Field(description="What is counted.")
    per: str = Field(max_length=28, description="The period of the limit.")
    used: int = Field(0, ge=0, description="Current usage.")
    limit: int = Field(0, ge=0, description="The limit.")


class MailSenderStatus(Observed):
    """The observed state of the sender."""

    observed_generation: int | None = Field(None, ge=0, description=OBSERVED_GENERATION)
    generation_in_force: int | None = Field(None, ge=0, description=GENERATION_IN_FORCE)
    conditions: tuple[Condition, ...] = Field(
        default_factory=lambda: initial_conditions("MailSender"),
        max_length=16,
        description="Accepted: the relay admits the sender. ResolvedRefs: its Secret is"
        " usable, and the relay's certificate is valid for the host's name. Programmed:"
        " every replica of the relay has it. Deliverable: nobody refuses the sender's domain"
        " or address; it never takes part in Ready. Ready: the first three, and the Secret is"
        " written.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
    username: str = Field("", max_length=320, description="Username to log in with.")
    endpoint: Endpoint | None = Field(None, description="Host and port to connect to.")
    secret_name: str = Field(
        "", max_length=253, description="Secret with a client's connection settings."
    )
    last_rotated: str | None = Field(
        None,
        max_length=64,
        description="When the password was generated.",
        json_schema_extra={"format": "date-time"},
    )
    usage: tuple[Usage, ...] = Field(
        (), max_length=16, description="Usage of the limits.", json_schema_extra=ATOMIC
    )


class MailSender(Struct):
    """A workload's permission to send mail from some addresses, and its credentials."""

    api_version: Literal["mailrelay.dev/v1alpha1"] = API_VERSION  # type: ignore[assignment]
    kind: Literal["MailSender"] = "MailSender"
    metadata: ObjectMeta
    spec: MailSenderSpec
    status: MailSenderStatus = Field(default_factory=MailSenderStatus)

    @property
    def relay_key(self) -> tuple[str, str]:
        """Namespace and name of the MailRelay that it names."""
        return self.spec.relay_ref.namespace or self.metadata.namespace, self.spec.relay_ref.name
