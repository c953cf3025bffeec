"""scrypt beside the rounds: each verifier is kept as it is made, and none is made twice."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mailrelay_operator.engine.backlog import Key
from mailrelay_operator.engine.verifiers import Verifiers
from mailrelay_operator.plan.facts import ScryptWanted


def app(number: int) -> Key:
    return Key(kind="MailSender", namespace="mail", name=f"app-{number}")


def wanted(password: str) -> ScryptWanted:
    return ScryptWanted(password=password.encode())


class Rung:
    """What the bell brings: when it rings for a key, how many of those asked for are there."""

    def __init__(self) -> None:
        self.keys: list[Key] = []
        self.there: list[int] = []
        self.asked: list[tuple[Key, ScryptWanted]] = []
        self.verifiers = Verifiers(self)

    def __call__(self, key: Key) -> None:
        self.keys.append(key)
        found = [self.verifiers.find(*one) for one in self.asked]
        self.there.append(sum(one is not None for one in found))


@pytest.fixture
def rung() -> Iterator[Rung]:
    made = Rung()
    yield made
    made.verifiers.close()


async def test_each_is_kept_as_it_is_made(rung: Rung) -> None:
    """A process that ends, or a round that is over, loses at most the one in work."""
    rung.asked = [(app(number), wanted(f"password {number}")) for number in range(5)]
    assert [rung.verifiers.find(*one) for one in rung.asked] == [None] * 5
    await rung.verifiers.idle()
    assert rung.keys == [app(number) for number in range(5)]
    assert rung.there == [1, 2, 3, 4, 5]


async def test_none_is_made_twice_and_another_password_is_another(rung: Rung) -> None:
    for _ in range(3):
        assert rung.verifiers.find(app(0), wanted("password 0")) is None
    await rung.verifiers.idle()
    first = rung.verifiers.find(app(0), wanted("password 0"))
    assert first is rung.verifiers.find(app(0), wanted("password 0")) is not None
    assert rung.verifiers.find(app(0), wanted("another")) is None
    await rung.verifiers.idle()
    assert rung.verifiers.find(app(0), wanted("another")) not in (None, first)
    assert rung.keys.count(app(0)) == 2


async def test_what_is_forgotten_or_superseded_while_it_is_made_is_not_kept(rung: Rung) -> None:
    assert rung.verifiers.find(app(7), wanted("old")) is None
    assert rung.verifiers.find(app(7), wanted("new")) is None
    assert rung.verifiers.find(app(8), wanted("gone")) is None
    rung.verifiers.forget(app(8))
    await rung.verifiers.idle()
    assert rung.verifiers.find(app(7), wanted("new")) is not None
    assert rung.keys == [app(7)]
