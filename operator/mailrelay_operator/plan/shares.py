"""PURE: the senders of a relay, packed into the shares of its configuration. A share that is full
refuses its newest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from mailrelay_gateway.config import (
    MAX_FILE_OCTETS,
    SENDER_SHARES,
    SendersDocument,
    encode,
    share_of,
)
from mailrelay_operator.api.reasons import Reason
from mailrelay_operator.plan.remembered import encode_senders
from mailrelay_operator.plan.senders import SenderPlan
from mailrelay_operator.plan.verdicts import Trouble


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """One share's Secret: the file that gateways read (None: no sender is in it) and what the
    operator remembers."""

    number: int
    file: bytes | None
    remembered: bytes


def pack(
    plans: Sequence[SenderPlan], *, limit: int = MAX_FILE_OCTETS
) -> tuple[tuple[Share, ...], tuple[SenderPlan, ...]]:
    """All 16 shares, and the senders (in their order, oldest first) as they are after it: who finds
    no room within `limit` octets is `RelayFull` and not in the configuration; the others are
    untouched."""
    members: dict[int, list[SenderPlan]] = {number: [] for number in range(SENDER_SHARES)}
    for plan in plans:
        members[share_of(plan.uid)].append(plan)
    shares: list[Share] = []
    without_room: set[str] = set()
    for number, candidates in members.items():
        count = _how_many_fit(number, candidates, limit)
        without_room.update(plan.uid for plan in candidates[count:] if plan.entry is not None)
        shares.append(_share(number, candidates[:count]))
    after = tuple(_refused(plan) if plan.uid in without_room else plan for plan in plans)
    return tuple(shares), after


def _refused(plan: SenderPlan) -> SenderPlan:
    trouble = Trouble(reason=Reason.RELAY_FULL, message=Reason.RELAY_FULL.sentence)
    return replace(plan, entry=None, remembered=None, refused=plan.refused or trouble)


def _how_many_fit(number: int, candidates: Sequence[SenderPlan], limit: int) -> int:
    """The longest head of the list that fits, by bisection, since each try compresses the whole."""
    if _octets(_share(number, candidates)) <= limit:
        return len(candidates)
    low, high = 0, len(candidates)
    while high - low > 1:
        middle = (low + high) // 2
        if _octets(_share(number, candidates[:middle])) <= limit:
            low = middle
        else:
            high = middle
    return low


def _octets(share: Share) -> int:
    return len(share.file or b"") + len(share.remembered)


def _share(number: int, members: Sequence[SenderPlan]) -> Share:
    entries = sorted(
        (plan.entry for plan in members if plan.entry is not None), key=lambda entry: entry.uid
    )
    remembered = [plan.remembered for plan in members if plan.remembered is not None]
    document = SendersDocument(share=number, senders=tuple(entries))
    return Share(
        number=number,
        file=encode(document) if entries else None,
        remembered=encode_senders(remembered) if remembered else b"",
    )
