"""Packs the senders of a relay into the shares of its configuration. Pure.

A sender in a share keeps its place: a full share refuses new and growing entries, oldest first
admitted, never a sender whose login works.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from mailrelay_gateway.contract.documents import SENDER_SHARES, Sender, SendersDocument
from mailrelay_gateway.contract.files import MAX_FILE_OCTETS, encode, share_of
from mailrelay_operator.api.reasons import Reason
from mailrelay_operator.plan.senders import Candidate
from mailrelay_operator.plan.verdicts import Trouble

#: The part of a share reserved for the senders in it: a new password makes an entry longer.
RESERVE = 0.05
#: Octets of addresses that all MailSenders of one namespace may claim together, before
#: compression: a thousand with sixty addresses each, and still a small part of a relay's room.
MAX_NAMESPACE_OCTETS = 2 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """One share: the file that gateways read; None if it has no sender."""

    number: int
    file: bytes | None
    senders: Mapping[str, Sender] = field(default_factory=dict)


class Encodings:
    """A cache of encoded shares, so that an unchanged one is not encoded again. It does not affect
    the result."""

    def __init__(self) -> None:
        """An empty cache."""
        self._last: dict[int, tuple[tuple[Sender, ...], bytes]] = {}

    def encode(self, number: int, senders: tuple[Sender, ...]) -> bytes:
        """The file of this share."""
        known = self._last.get(number)
        if known is None or known[0] != senders:
            known = (senders, encode(SendersDocument(share=number, senders=senders)))
            self._last[number] = known
        return known[1]


def pack(
    candidates: Sequence[Candidate],
    *,
    limit: int = MAX_FILE_OCTETS,
    namespace_limit: int = MAX_NAMESPACE_OCTETS,
    encodings: Encodings | None = None,
) -> tuple[tuple[Share, ...], tuple[Candidate, ...]]:
    """All 16 shares, and the resulting candidates (oldest first): those without room are refused as
    `RelayFull`."""
    encodings = encodings or Encodings()
    after = {one.uid: one for one in _within_namespaces(candidates, namespace_limit)}
    members: dict[int, list[str]] = {number: [] for number in range(SENDER_SHARES)}
    for uid in after:
        members[share_of(uid)].append(uid)
    shares: list[Share] = []
    for number, uids in members.items():
        there = [after[uid] for uid in uids if after[uid].admission.entry is not None]
        share = _share(number, there, encodings)
        if _octets(share) > limit:
            fitting = _fitting(number, there, limit)
            after.update((one.uid, one) for one in fitting)
            kept = [one for one in fitting if one.admission.entry is not None]
            share = _share(number, kept, encodings)
        shares.append(share)
    return tuple(shares), tuple(after.values())


def _within_namespaces(candidates: Sequence[Candidate], limit: int) -> list[Candidate]:
    """Limit each namespace to its part, however many MailSenders it has: existing entries first,
    then new ones, oldest first, as far as there is room."""
    used: dict[str, int] = {}
    for one in map(_without_growth, candidates):
        entry = one.admission.entry
        if entry is not None:
            used[entry.namespace] = used.get(entry.namespace, 0) + _length(entry.addresses)
    full: set[str] = set()
    # Existing entries come first; the sort is stable, so that older ones precede newer ones.
    for one in sorted(filter(_grows, candidates), key=lambda one: one.written is None):
        entry = one.admission.entry
        assert entry is not None  # otherwise it would not grow
        kept = _without_growth(one).admission.entry
        more = _length(entry.addresses) - (_length(kept.addresses) if kept is not None else 0)
        if used.get(entry.namespace, 0) + more > limit:
            full.add(one.uid)
        else:
            used[entry.namespace] = used.get(entry.namespace, 0) + more
    return [_without_growth(one) if one.uid in full else one for one in candidates]


def _fitting(number: int, there: Sequence[Candidate], limit: int) -> list[Candidate]:
    """The same candidates, limited to what fits: existing entries without their growth, then
    new ones and growth, oldest first, as far as there is room."""
    settled = [_without_growth(one) for one in there]
    growing = [n for n, one in enumerate(there) if _grows(one)]
    room = int(limit * (1 - RESERVE))

    def octets(count: int) -> int:
        tried = list(settled)
        for n in growing[:count]:
            tried[n] = there[n]
        return _octets(_share(number, [one for one in tried if one.admission.entry], Encodings()))

    low, high = 0, len(growing)  # bisection, since each try compresses the whole share
    while low < high:
        middle = (low + high + 1) // 2
        if octets(middle) <= room:
            low = middle
        else:
            high = middle - 1
    for n in growing[:low]:
        settled[n] = there[n]
    return settled


def _grows(one: Candidate) -> bool:
    """Whether its new entry is larger than the existing one."""
    entry = one.admission.entry
    if entry is None:
        return False
    if one.written is None:
        return True
    return _length(entry.addresses) > _length(one.written.addresses)


def _without_growth(one: Candidate) -> Candidate:
    """An existing entry keeps its old addresses with its current login; a new one is refused."""
    entry = one.admission.entry
    if entry is None or not _grows(one):
        return one
    trouble = Trouble(reason=Reason.RELAY_FULL, message=Reason.RELAY_FULL.sentence)
    if one.written is None:
        return one.refused(trouble)
    # Addresses that the newest spec removed are not kept, even if the edit adds others.
    kept = tuple(a for a in one.written.addresses if a in entry.addresses)
    admission = replace(
        one.admission,
        entry=entry.model_copy(update={"addresses": kept}),
        refused=one.admission.refused or trouble,
        is_newest=False,
    )
    return replace(one, admission=admission)


def _length(addresses: Sequence[str]) -> int:
    return sum(len(one.encode()) for one in addresses)


def _octets(share: Share) -> int:
    return len(share.file or b"")


def _share(number: int, members: Sequence[Candidate], encodings: Encodings) -> Share:
    entries = {one.uid: one.admission.entry for one in members if one.admission.entry is not None}
    senders = tuple(entries[uid] for uid in sorted(entries))
    return Share(
        number=number,
        file=encodings.encode(number, senders) if senders else None,
        senders=entries,
    )
