"""Accounts are bounded, and those in use are kept as long as others can go."""

from __future__ import annotations

from mailrelay_gateway.intake.ledger import LINES_AT_ONCE, LINES_PER_SECOND, Account, Ledger


def test_the_account_that_was_used_longest_ago_is_forgotten() -> None:
    ledger = Ledger(limit=3)
    first, second = ledger.of("a"), ledger.of("b")
    ledger.of("c")
    assert ledger.of("a") is first
    ledger.of("d")
    assert len(ledger) == 3
    assert ledger.of("a") is first
    assert ledger.of("b") is not second


def test_an_account_in_use_outlives_idle_ones() -> None:
    ledger = Ledger(limit=3)
    used = ledger.of("a")
    used.octets = 1
    for n in range(100):
        ledger.of(f"other {n}")
    assert ledger.of("a") is used
    assert len(ledger) == 3


def test_there_are_never_more_even_if_all_are_in_use() -> None:
    ledger = Ledger(limit=20)
    for n in range(100):
        ledger.of(f"{n}").octets = 1
    assert len(ledger) == 20


def test_lines_of_the_log_are_many_at_once_and_few_for_long() -> None:
    account, now = Account(), 1000.0
    assert sum(account.may_log(now) for _ in range(1000)) == LINES_AT_ONCE
    assert not account.may_log(now + 0.5 / LINES_PER_SECOND)
    assert account.may_log(now + 1.5 / LINES_PER_SECOND)
    allowed = sum(account.may_log(now + 10 + n / 100) for n in range(6000))
    assert allowed <= LINES_AT_ONCE + 60 * LINES_PER_SECOND
