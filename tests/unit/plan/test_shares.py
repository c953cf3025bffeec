"""Packing senders into shares."""

from __future__ import annotations

from mailrelay_gateway.config import SENDER_SHARES, SendersDocument, encode, share_of
from mailrelay_operator.plan.facts import Material
from mailrelay_operator.plan.remembered import decode_senders
from mailrelay_operator.plan.senders import SenderPlan, plan_senders
from mailrelay_operator.plan.shares import pack
from tests.unit.plan.build import facts, model, sender


def planned(count: int) -> tuple[SenderPlan, ...]:
    """So many senders of one share, oldest first."""
    names = [name for name in map(str, range(100_000)) if share_of(f"mail-n{name}-uid") == 3]
    senders = []
    for number, name in enumerate(names[:count]):
        one = sender(f"n{name}", as_=f"sender-number-{name}@example.com")
        one["metadata"]["creationTimestamp"] = f"2026-01-01T00:00:{number:02d}Z"
        senders.append(one)
    return plan_senders(
        facts(None, *senders),
        allowed=model().spec.allowed_senders,
        remembered={},
        existing={},
        material=Material(passwords={one["metadata"]["uid"]: "x" * 43 for one in senders}),
    )


def test_every_share_is_there_and_the_empty_ones_hold_nothing() -> None:
    shares, after = pack(planned(2))
    assert [one.number for one in shares] == list(range(SENDER_SHARES))
    assert [one.number for one in shares if one.file is not None] == [3]
    assert [one.number for one in shares if one.remembered] == [3]
    assert all(one.refused is None for one in after)


def test_a_full_share_refuses_its_newest_and_leaves_the_others_untouched() -> None:
    plans = planned(20)
    whole, _ = pack(plans)
    size = len(whole[3].file or b"") + len(whole[3].remembered)
    shares, after = pack(plans, limit=size * 3 // 4)
    share = shares[3]
    assert len(share.file or b"") + len(share.remembered) <= size * 3 // 4
    refused = [one for one in after if one.refused is not None]
    kept = [one for one in after if one.refused is None]
    assert len(refused) > 0
    assert after == tuple(kept + refused)
    assert {str(one.refused.reason) for one in refused if one.refused} == {"RelayFull"}
    assert all(one.entry is None for one in refused)
    entries = sorted((one.entry for one in kept if one.entry), key=lambda entry: entry.uid)
    assert share.file == encode(SendersDocument(share=3, senders=tuple(entries)))
    assert set(decode_senders(share.remembered)) == {one.uid for one in kept}


def test_one_more_sender_would_not_have_fitted() -> None:
    plans = planned(20)
    limit = 600
    _, after = pack(plans, limit=limit)
    fitted = sum(one.refused is None for one in after)
    more, _ = pack(plans[: fitted + 1])
    assert len(more[3].file or b"") + len(more[3].remembered) > limit
