"""A new CA is in every `ca.crt` for 30 days before it issues: over years, no client that loaded the
file within that time meets a certificate that it cannot verify."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache

import pytest
from cryptography.exceptions import InvalidSignature

from mailrelay_gateway.contract.documents import Certificate
from mailrelay_operator.engine.minting import mint_authority, mint_leaf
from mailrelay_operator.plan.certificates import (
    AUTHORITY_LIFE,
    LEAF_LIFE,
    parse_chain,
    why_leaf_is_due,
)
from mailrelay_operator.plan.facts import Absence, LeafWanted
from mailrelay_operator.plan.succession import (
    NEXT_MINTED,
    OVERLAP,
    STRAGGLERS,
    Authorities,
    Replaced,
    is_valid,
    read_authorities,
    succeed,
    trust_digest,
    trusted_by,
    write_authorities,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
END = NOW + AUTHORITY_LIFE
DAY = timedelta(days=1)
NAMES = LeafWanted(dns_names=("out.mail.svc",), addresses=())

OLD = mint_authority("mail/out", now=NOW)
NEW = mint_authority("mail/out", now=END - NEXT_MINTED)
ALONE = Authorities(current=OLD)
BOTH = Authorities(current=OLD, next=NEW)


def spread(since: datetime) -> Authorities:
    return replace(BOTH, spread=since)


AFTER = Authorities(current=NEW, previous=(OLD.certificate,))
SWITCH = END - NEXT_MINTED + OVERLAP


@pytest.mark.parametrize(
    ("found", "now", "everywhere", "expected", "wants_next", "replaced"),
    [
        # The one CA suffices until the next one needs its time.
        (ALONE, NOW, True, ALONE, False, None),
        (ALONE, END - NEXT_MINTED - DAY, True, ALONE, False, None),
        (ALONE, END - NEXT_MINTED, True, ALONE, True, None),
        (ALONE, END - DAY, False, ALONE, True, None),
        # The overlap begins when the last ca.crt has it, or without those that cannot be written.
        (BOTH, END - NEXT_MINTED, False, BOTH, False, None),
        (BOTH, END - NEXT_MINTED, True, spread(END - NEXT_MINTED), False, None),
        (
            BOTH,
            END - NEXT_MINTED + STRAGGLERS,
            False,
            spread(END - NEXT_MINTED + STRAGGLERS),
            False,
            None,
        ),
        # Then it lasts 30 days, whatever is written meanwhile.
        (spread(SWITCH - OVERLAP), SWITCH - DAY, False, spread(SWITCH - OVERLAP), False, None),
        (spread(SWITCH - OVERLAP), SWITCH, False, AFTER, False, Replaced.AFTER_OVERLAP),
        # The old one is trusted until it ends.
        (AFTER, END - DAY, True, AFTER, False, None),
        (AFTER, END, True, Authorities(current=NEW), False, None),
        # One that has really expired waits for nothing.
        (ALONE, END, True, None, False, Replaced.EXPIRED),
        (BOTH, END, False, Authorities(current=NEW), False, Replaced.EXPIRED),
        # What is not valid yet was issued by a clock that was ahead.
        (ALONE, NOW - DAY, True, None, False, Replaced.EXPIRED),
        (BOTH, NOW, True, ALONE, False, None),
        (spread(END), END - 80 * DAY, False, spread(END - 80 * DAY), False, None),
    ],
)
def test_which_ca_issues_and_which_are_trusted(
    found: Authorities,
    now: datetime,
    expected: Authorities | None,
    replaced: Replaced | None,
    *,
    everywhere: bool,
    wants_next: bool,
) -> None:
    made = succeed(found, now=now, everywhere=everywhere)
    assert (made.authorities, made.wants_next, made.replaced) == (expected, wants_next, replaced)


@pytest.mark.parametrize("found", [ALONE, BOTH, spread(NOW), AFTER])
def test_what_is_written_is_read(found: Authorities) -> None:
    data = write_authorities(found)
    assert read_authorities(data) == found
    assert parse_chain(data["ca.crt"].decode())[0] == parse_chain(found.current.certificate)[0]


def test_a_secret_of_an_earlier_version_is_read() -> None:
    data = {"ca.crt": OLD.certificate.encode(), "ca.key": OLD.key.encode()}
    assert read_authorities(data) == ALONE


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"ca.crt": OLD.certificate.encode()},
        {"ca.crt": b"junk", "ca.key": OLD.key.encode()},
        {"ca.crt": OLD.certificate.encode(), "ca.key": NEW.key.encode()},
        {"ca.crt": OLD.certificate.encode(), "ca.key": b"junk"},
        {"ca.crt": OLD.certificate.encode() + b"-----BEGIN CERTIFICATE-----\n", "ca.key": b"k"},
    ],
)
def test_what_cannot_be_read_is_not_guessed(data: dict[str, bytes]) -> None:
    assert read_authorities(data) is None


def test_a_next_one_without_its_key_issues_nothing() -> None:
    data = write_authorities(BOTH)
    del data["next.key"]
    assert read_authorities(data) == Authorities(current=OLD, previous=(NEW.certificate,))


def test_what_somebody_else_left_in_the_secret_is_no_next_one() -> None:
    """After a restore the keys belong to another field manager, and stay where ours are removed."""
    left = write_authorities(spread(NOW))
    assert read_authorities(left | _without_empty(write_authorities(AFTER))) == AFTER
    assert set(write_authorities(AFTER)) == set(left)
    assert (left | write_authorities(AFTER))["next.spread"] == b""


def _without_empty(data: dict[str, bytes]) -> dict[str, bytes]:
    return {key: value for key, value in data.items() if value}


def test_what_a_tenants_secret_makes_its_clients_trust() -> None:
    assert trusted_by(Absence.MISSING) == ""
    assert trusted_by(Absence.FORBIDDEN) is None
    assert trusted_by({"stringData": {"ca.crt": "x"}}) == trust_digest("x") != ""


def test_near_the_end_of_its_ca_a_leaf_is_not_renewed_again_and_again() -> None:
    moment = END - timedelta(hours=5)
    leaf = mint_leaf(NAMES, OLD, now=moment)
    for minutes in range(0, 300, 5):
        now = moment + timedelta(minutes=minutes)
        assert due(leaf, OLD.certificate, now) is None


# --- over years


def due(leaf: Certificate | None, bundle: str, now: datetime) -> str | None:
    return why_leaf_is_due(leaf, authority=bundle, dns_names=NAMES.dns_names, addresses=(), now=now)


@lru_cache(maxsize=4096)
def issuer_in(bundle: str, leaf: str) -> str | None:
    """The CA in the bundle that issued the leaf."""
    (served,) = parse_chain(leaf)
    for one in _each(bundle):
        try:
            served.verify_directly_issued_by(parse_chain(one)[0])
        except (ValueError, InvalidSignature):
            continue
        return one
    return None


@dataclass
class Relay:
    """A relay whose operator acts when it is up, and the files that its tenants have loaded."""

    now: datetime
    stored: Authorities
    leaf: Certificate
    tenants: list[str]
    #: What could be loaded, and until when it was there.
    loaded: deque[tuple[datetime, str]] = field(default_factory=deque)
    takeovers: list[Replaced] = field(default_factory=list)

    @classmethod
    def started(cls, now: datetime, tenants: int) -> Relay:
        ca = mint_authority("mail/out", now=now)
        stored = Authorities(current=ca)
        leaf = mint_leaf(NAMES, ca, now=now)
        return cls(now=now, stored=stored, leaf=leaf, tenants=[stored.bundle] * tenants)

    def round(self, writable: int) -> None:
        """One round of the operator; only the first `writable` tenants' Secrets can be written."""
        known = trust_digest(self.stored.bundle)
        everywhere = all(trust_digest(one) == known for one in self.tenants)
        made = succeed(self.stored, now=self.now, everywhere=everywhere)
        kept = made.authorities or Authorities(current=mint_authority("mail/out", now=self.now))
        if made.replaced is not None:
            self.takeovers.append(made.replaced)
        if due(self.leaf, kept.bundle, self.now) is not None:
            self.leaf = mint_leaf(NAMES, kept.current, now=self.now)
        for number in range(min(writable, len(self.tenants))):
            self.tenants[number] = kept.bundle
        if made.wants_next:  # stored now, and in a ca.crt from the next round on
            kept = replace(kept, next=mint_authority("mail/out", now=self.now))
        self.stored = kept

    def check(self) -> None:
        """Every client that loaded its ca.crt within the last 30 days verifies what is served."""
        for one in set(self.tenants):
            self.loaded.append((self.now, one))
        while self.loaded and self.now - self.loaded[0][0] > OVERLAP:
            self.loaded.popleft()
        (served,) = parse_chain(self.leaf.chain)
        assert served.not_valid_before_utc <= self.now < served.not_valid_after_utc
        for bundle in {one for _, one in self.loaded}:
            issuer = issuer_in(bundle, self.leaf.chain)
            assert issuer is not None, f"loaded within 30 days, fails at {self.now}"
            assert is_valid(issuer, now=self.now)


def _each(bundle: str) -> list[str]:
    end = "-----END CERTIFICATE-----\n"
    return [f"{one}{end}" for one in bundle.split(end) if one]


@pytest.mark.parametrize("seed", range(24))
def test_no_client_fails_that_loads_its_ca_every_30_days(seed: int) -> None:
    """At every instant, every client that loaded `ca.crt` within the last 30 days verifies the
    certificate that is served, although around the change the operator is down (for less than the
    30 days that are left of a leaf) and Secrets cannot be written (for less than a week)."""
    rng = random.Random(seed)
    minted = (AUTHORITY_LIFE - NEXT_MINTED).days
    outage = (minted + rng.randrange(-3, 40), rng.randrange(29))
    refusal = (minted + rng.randrange(-3, 4), rng.randrange(7))
    relay = Relay.started(NOW, tenants=3)
    for day in range(minted - 40, minted + 110):
        relay.now = NOW + day * DAY
        if not _is_in(day, outage):
            for _ in range(2):
                relay.round(writable=1 if _is_in(day, refusal) else 3)
        relay.check()
    assert relay.takeovers == [Replaced.AFTER_OVERLAP]


def _is_in(day: int, span: tuple[int, int]) -> bool:
    return span[0] <= day < span[0] + span[1]


def test_for_thirty_years_each_ca_follows_the_other() -> None:
    relay = Relay.started(NOW, tenants=2)
    for week in range(30 * 52):
        relay.now = NOW + week * 7 * DAY
        relay.round(writable=2)
        relay.check()
        assert len(_each(relay.stored.bundle)) <= 3
    assert relay.takeovers == [Replaced.AFTER_OVERLAP] * 3


def test_no_leaf_is_shortened_by_the_end_of_its_ca() -> None:
    relay = Relay.started(NOW, tenants=1)
    for day in range(3450, 3650):
        relay.now = NOW + day * DAY
        relay.round(writable=1)
        (leaf,) = parse_chain(relay.leaf.chain)
        assert leaf.not_valid_after_utc - leaf.not_valid_before_utc >= LEAF_LIFE
