"""A parsed resource, or why it is refused; and `Trouble`, one reason why it has no effect. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar

from mailrelay_operator.api.conditions import Status, Verdict
from mailrelay_operator.api.maildomain import MailDomain
from mailrelay_operator.api.mailrelay import MailRelay
from mailrelay_operator.api.mailsender import MailSender
from mailrelay_operator.api.parsing import InvalidResource, parse
from mailrelay_operator.api.reasons import Reason
from mailrelay_operator.api.unsupported import unsupported_fields, unsupported_message
from mailrelay_operator.plan.objects import Manifest, name_of, namespace_of

_Kind = TypeVar("_Kind", MailRelay, MailSender, MailDomain)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """One problem: its reason, and a message that names object, field and remedy. `path` is the
    field of the resource, from which the CLI finds the line of the file."""

    reason: Reason
    message: str
    path: str = field(default="", compare=False)

    def verdict(self, status: Status = "False") -> Verdict:
        """The verdict of a condition with this problem."""
        return Verdict(status=status, reason=self.reason, message=self.message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Complaint:
    """A trouble and the resource that it is about, for a terminal."""

    kind: str
    namespace: str
    name: str
    trouble: Trouble

    def __str__(self) -> str:
        """One line."""
        trouble = self.trouble
        return f"{self.kind} {self.namespace}/{self.name}: {trouble.reason}: {trouble.message}"


def complaint(manifest: Manifest, trouble: Trouble) -> Complaint:
    """This trouble with this object."""
    return Complaint(
        kind=str(manifest["kind"]),
        namespace=namespace_of(manifest),
        name=name_of(manifest),
        trouble=trouble,
    )


def read_relay(manifest: Manifest) -> MailRelay | Trouble:
    """The MailRelay, or why it is refused."""
    return _read(manifest, MailRelay)


def read_sender(manifest: Manifest) -> MailSender | Trouble:
    """The MailSender, or why it is refused."""
    return _read(manifest, MailSender)


def read_domain(manifest: Manifest) -> MailDomain | Trouble:
    """The MailDomain, or why it is refused."""
    return _read(manifest, MailDomain)


def with_spec(manifest: Manifest, spec: Manifest, generation: int) -> Manifest:
    """The object with an earlier spec: with its current identity and without a status."""
    return {
        "apiVersion": manifest["apiVersion"],
        "kind": manifest["kind"],
        "metadata": manifest["metadata"] | {"generation": generation},
        "spec": spec,
    }


def joined(troubles: tuple[Trouble, ...]) -> Trouble | None:
    """Several troubles as one: the first one's reason, and all messages; None if there are
    none."""
    if not troubles:
        return None
    message = " ".join(dict.fromkeys(trouble.message for trouble in troubles))
    return Trouble(reason=troubles[0].reason, message=message)


def _read(manifest: Manifest, model: type[_Kind]) -> _Kind | Trouble:
    try:
        resource = parse(manifest)
    except InvalidResource as error:
        return Trouble(reason=Reason.INVALID, message=error.sentence)
    if not isinstance(resource, model):
        raise TypeError(f"{namespace_of(manifest)}/{name_of(manifest)} is not a {model.__name__}")
    unsupported = unsupported_fields(resource)
    if unsupported:
        return Trouble(reason=Reason.UNSUPPORTED, message=unsupported_message(unsupported))
    return resource
