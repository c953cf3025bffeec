"""Packing senders into shares: who is in keeps its place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mailrelay_gateway.contract.documents import (
    SENDER_SHARES,
    Sender,
    SendersDocument,
)
from mailrelay_gateway.contract.files import encode, share_of
from mailrelay_operator.plan.facts import SenderLogin
from mailrelay_operator.plan.senders import Candidate, admit
from mailrelay_operator.plan.shares import Encodings, pack
from tests.models import made
from tests.unit.plan.build import facts, model, sender

#: Names of senders that fall into share 3.
NAMES = [name for name in map(str, range(10_000)) if share_of(f"mail-n{name}-uid") == 3]


def candidates(
    count: int,
    *,
    written: Mapping[str, Sender] | None = None,
    addresses: Mapping[int, Sequence[str]] | None = None,
) -> tuple[Candidate, ...]:
    """So many senders of one share, oldest first."""
    senders = []
    for number, name in enumerate(NAMES[:count]):
        one = sender(f"n{name}", as_=f"sender-number-{name}@example.com")
        if addresses and number in addresses:
            one["spec"]["from"] = list(addresses[number])
        one["metadata"]["creationTimestamp"] = f"2026-01-01T00:00:{number:02d}Z"
        senders.append(one)
    logins = {
        one["metadata"]["uid"]: SenderLogin(
            username=one["metadata"]["name"],
            verifiers=(made.sha256_verifier(hash=f"{n:02d}" * 32),),
        )
        for n, one in enumerate(senders)
    }
    return admit(
        facts(None, *senders, logins=logins),
        allowed=[model().spec.allowed_senders],
        written=written or {},
    )


def entries(after: Sequence[Candidate]) -> dict[str, Sender]:
    return {one.uid: one.admission.entry for one in after if one.admission.entry is not None}


def size_of(found: Sequence[Candidate]) -> int:
    shares, _ = pack(found)
    return len(shares[3].file or b"")


def test_a_senders_class_reaches_the_gateway() -> None:
    one, two = sender("n1", as_="a@example.com"), sender("n2", as_="b@example.com")
    two["spec"]["class"] = "Bulk"
    logins = {
        each["metadata"]["uid"]: SenderLogin(
            username=each["metadata"]["name"], verifiers=(made.sha256_verifier(hash="00" * 32),)
        )
        for each in (one, two)
    }
    found = admit(
        facts(None, one, two, logins=logins),
        allowed=[model().spec.allowed_senders],
        written={},
    )
    assert [entry.bulk for entry in entries(found).values()] == [False, True]


def test_every_share_is_there_and_the_empty_ones_hold_nothing() -> None:
    shares, after = pack(candidates(2))
    assert [one.number for one in shares] == list(range(SENDER_SHARES))
    assert [one.number for one in shares if one.file is not None] == [3]
    assert all(one.admission.refused is None for one in after)


def test_a_full_share_refuses_its_newest_and_leaves_the_others_untouched() -> None:
    found = candidates(20)
    limit = size_of(found) * 3 // 4
    shares, after = pack(found, limit=limit)
    assert len(shares[3].file or b"") <= limit
    refused = [one for one in after if one.admission.refused is not None]
    kept = [one for one in after if one.admission.refused is None]
    assert len(refused) > 0
    assert after == tuple(kept + refused)
    assert {str(one.admission.refused.reason) for one in refused if one.admission.refused} == {
        "RelayFull"
    }
    assert all(one.admission.entry is None for one in refused)
    senders = tuple(entries(kept)[uid] for uid in sorted(entries(kept)))
    assert shares[3].file == encode(SendersDocument(share=3, senders=senders))


def test_an_older_sender_that_grows_never_throws_out_a_younger_one() -> None:
    before = candidates(12)
    _, packed = pack(before)
    written = entries(packed)
    limit = int(size_of(before) * 1.1)
    many = [f"random-address-{n * 7919}@example.com" for n in range(60)]
    after = candidates(12, written=written, addresses={0: many})
    _, after = pack(after, limit=limit)
    assert entries(after).keys() == written.keys()
    oldest, *younger = after
    assert all(one.admission.refused is None for one in younger)
    assert oldest.admission.refused is not None
    assert oldest.admission.refused.reason == "RelayFull"
    # What its newest spec gave up is not kept either.
    assert oldest.admission.entry is not None
    assert oldest.admission.entry.addresses == ()


def test_a_newcomer_never_throws_out_one_that_is_in() -> None:
    _, packed = pack(candidates(10))
    written = entries(packed)
    # The youngest ones are in already, and the two oldest come anew, as from another relay.
    uids = list(written)
    there = {uid: written[uid] for uid in uids[2:]}
    found = candidates(10, written=there)
    _, after = pack(found, limit=size_of(candidates(10)) - 20)
    assert there.keys() <= entries(after).keys()


def test_a_new_password_is_no_growth() -> None:
    before = candidates(12)
    _, packed = pack(before)
    limit = size_of(before)
    again = candidates(12, written=entries(packed))
    _, after = pack(again, limit=limit)
    assert all(one.admission.refused is None for one in after)


def test_no_namespace_takes_more_than_its_part() -> None:
    _, after = pack(candidates(10), namespace_limit=200)
    refused = [one for one in after if one.admission.refused is not None]
    assert 0 < len(refused) < 10
    written = entries(after)
    _, again = pack(candidates(10, written=written), namespace_limit=200)
    assert entries(again) == written


def test_an_older_sender_that_grows_takes_no_room_that_its_namespace_does_not_have() -> None:
    in_already = candidates(5)
    written = entries(in_already)
    octets = sum(len(a) for entry in written.values() for a in entry.addresses)
    more = ["another-one@example.com", *written[in_already[0].uid].addresses]
    again = candidates(6, written=written, addresses={0: more})
    _, after = pack(again, namespace_limit=octets)
    assert entries(after) == written
    assert [one.uid for one in after if one.admission.refused is not None] == [
        again[0].uid,
        again[5].uid,
    ]


def test_encodings_change_nothing_but_the_work() -> None:
    known = Encodings()
    first, _ = pack(candidates(5), encodings=known)
    second, _ = pack(candidates(5), encodings=known)
    assert second == first == pack(candidates(5))[0]
    assert second[3].file is first[3].file
