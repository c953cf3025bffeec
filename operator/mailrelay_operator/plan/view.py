"""A sender's view of its relay: whether it is admitted, where it connects, and whether the
gateways have it. Made by the relay's plan and passed on by the engine. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mailrelay_gateway.contract import documents
from mailrelay_gateway.contract.status import SenderFault
from mailrelay_operator.plan.endpoint import Endpoint
from mailrelay_operator.plan.verdicts import Trouble


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """The credential in effect: a Secret that the operator writes (`minted`) or an existing one."""

    secret: str
    minted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """The relay's side of the handshake with one sender.

    `refused` is why the newest spec is not in effect; `credential` is the Secret of its login
    (None: it cannot log in), `entry` its entry in the gateways' configuration; `is_newest`: this is
    the newest spec. `generation` is the sender's that was judged.
    """

    refused: Trouble | None = None
    credential: Credential | None = None
    entry: documents.Sender | None = None
    is_newest: bool = True
    generation: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayView:
    """A relay as seen by its senders. `trouble` is why it admits none at all; `unusable` why
    clients could not connect; `known` are the UIDs of those whose entry every ready pod has;
    `faults` are by UID what was refused about a sender's domain or address; `starting`: no pod is
    ready yet."""

    namespace: str
    name: str
    trouble: Trouble | None = None
    endpoint: Endpoint | None = None
    unusable: Trouble | None = None
    admissions: Mapping[str, Admission] = field(default_factory=dict)
    known: frozenset[str] = frozenset()
    faults: Mapping[str, SenderFault] = field(default_factory=dict)
    starting: bool = False


def changed_for(old: RelayView | None, new: RelayView) -> frozenset[str]:
    """The UIDs of the senders for whom the new view differs from the old one."""
    if old is None or _common(old) != _common(new):
        return frozenset(new.admissions)
    return frozenset(
        uid
        for uid, admission in new.admissions.items()
        if (uid in new.known) != (uid in old.known)
        or old.admissions.get(uid) != admission
        or old.faults.get(uid) != new.faults.get(uid)
    )


def _common(view: RelayView) -> tuple[object, ...]:
    return view.trouble, view.endpoint, view.unusable
