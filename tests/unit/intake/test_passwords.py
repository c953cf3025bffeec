"""Checking passwords: what is right, what is remembered, and what strangers cost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from mailrelay_gateway.contract.documents import UnknownKind
from mailrelay_gateway.intake.authentication import Authenticator, Login, Verdict, decoys_of
from mailrelay_gateway.policy.senders import Directory, compile_directory
from mailrelay_gateway.smtp.server.sasl import Credentials
from tests.integration.intake.gate import scrypt_verifier, sha256_verifier
from tests.models import made

MINTED = made.sender(
    uid="1", namespace="n", name="minted", username="minted", verifiers=(sha256_verifier("m"),)
)
CHOSEN = made.sender(
    uid="2", namespace="n", name="chosen", username="chosen", verifiers=(scrypt_verifier("c"),)
)
BOTH = made.sender(
    uid="3",
    namespace="n",
    name="both",
    username="both",
    verifiers=(scrypt_verifier("old"), sha256_verifier("new")),
)


@pytest.fixture
async def authenticator() -> AsyncIterator[Authenticator]:
    made = Authenticator(loop=asyncio.get_running_loop())
    yield made
    made.close()


class Asked:
    """One check: its verdict, and whether it came at once."""

    def __init__(
        self, authenticator: Authenticator, directory: Directory, username: str, password: str
    ) -> None:
        self._done: asyncio.Future[tuple[Verdict, Login | None]] = (
            asyncio.get_running_loop().create_future()
        )
        authenticator.check(
            directory,
            Credentials("PLAIN", username, password),
            "192.0.2.1",
            lambda: True,
            lambda verdict, login: self._done.set_result((verdict, login)),
        )
        self.at_once = self._done.done()

    async def verdict(self) -> tuple[Verdict, str]:
        verdict, login = await asyncio.wait_for(self._done, 10)
        return verdict, login.entry.identity.name if login else ""


@pytest.mark.parametrize(
    ("now", "verdict"), [(1_893_456_000 - 1, Verdict.OK), (1_893_456_000, Verdict.FAILED)]
)
async def test_a_password_ends_at_its_time_though_nobody_takes_it_out(
    now: float, verdict: Verdict
) -> None:
    old = sha256_verifier("old").model_copy(update={"until": "2030-01-01T00:00:00Z"})
    replaced = made.sender(
        uid="4",
        namespace="n",
        name="replaced",
        username="replaced",
        verifiers=(sha256_verifier("new"), old),
    )
    authenticator = Authenticator(loop=asyncio.get_running_loop(), now=lambda: now)
    directory = compile_directory([replaced])
    try:
        assert (await Asked(authenticator, directory, "replaced", "old").verdict())[0] == verdict
        newest = await Asked(authenticator, directory, "replaced", "new").verdict()
        assert newest[0] == Verdict.OK
    finally:
        authenticator.close()


async def test_verdicts(authenticator: Authenticator) -> None:
    directory = compile_directory([MINTED, CHOSEN, BOTH])
    authenticator.decoys = decoys_of(directory)
    for username, password, verdict, name in (
        ("minted", "m", Verdict.OK, "minted"),
        ("minted", "c", Verdict.FAILED, ""),
        ("minted", "", Verdict.FAILED, ""),
        ("chosen", "c", Verdict.OK, "chosen"),
        ("chosen", "m", Verdict.FAILED, ""),
        ("both", "old", Verdict.OK, "both"),
        ("both", "new", Verdict.OK, "both"),
        ("both", "other", Verdict.FAILED, ""),
        ("nobody", "m", Verdict.FAILED, ""),
        ("Minted", "m", Verdict.FAILED, ""),
    ):
        asked = Asked(authenticator, directory, username, password)
        assert await asked.verdict() == (verdict, name), (username, password)


async def test_a_minted_password_is_checked_at_once_and_a_chosen_one_once(
    authenticator: Authenticator,
) -> None:
    directory = compile_directory([MINTED, CHOSEN])
    authenticator.decoys = decoys_of(directory)
    assert Asked(authenticator, directory, "minted", "m").at_once
    first = Asked(authenticator, directory, "chosen", "c")
    assert not first.at_once
    assert (await first.verdict())[0] is Verdict.OK
    assert Asked(authenticator, directory, "chosen", "c").at_once
    wrong = Asked(authenticator, directory, "chosen", "wrong")
    assert not wrong.at_once
    assert (await wrong.verdict())[0] is Verdict.FAILED


async def test_what_is_remembered_goes_with_its_verifier(authenticator: Authenticator) -> None:
    directory = compile_directory([CHOSEN])
    authenticator.decoys = decoys_of(directory)
    assert (await Asked(authenticator, directory, "chosen", "c").verdict())[0] is Verdict.OK
    rotated = compile_directory([CHOSEN.model_copy(update={"verifiers": (scrypt_verifier("d"),)})])
    authenticator.decoys = decoys_of(rotated)
    assert (await Asked(authenticator, rotated, "chosen", "c").verdict())[0] is Verdict.FAILED


async def test_strangers_look_like_the_senders_there_are(authenticator: Authenticator) -> None:
    """An unknown username is checked as slowly as a known one, always the same one alike."""
    for senders, at_once in (
        ([MINTED], {True}),
        ([CHOSEN], {False}),
        ([MINTED, CHOSEN], {True, False}),
    ):
        directory = compile_directory(senders)
        authenticator.decoys = decoys_of(directory)
        seen = set()
        for number in range(24):
            twice = []
            for _ in range(2):
                asked = Asked(authenticator, directory, f"stranger-{number}", "x")
                assert (await asked.verdict())[0] is Verdict.FAILED
                twice.append(asked.at_once)
            assert twice[0] == twice[1]
            seen.add(twice[0])
        assert seen == at_once


async def test_a_verifier_that_cannot_be_read_is_our_error(authenticator: Authenticator) -> None:
    broken = scrypt_verifier("c").model_copy(update={"salt": "no hex"})
    directory = compile_directory([CHOSEN.model_copy(update={"verifiers": (broken,)})])
    authenticator.decoys = decoys_of(directory)
    assert (await Asked(authenticator, directory, "chosen", "c").verdict())[0] is Verdict.ERROR


async def test_what_only_a_newer_gateway_can_check_is_no_failure(
    authenticator: Authenticator,
) -> None:
    unknown = UnknownKind.read({"kind": "argon2", "hash": "1f"})
    directory = compile_directory(
        [
            sender.model_copy(update={"verifiers": (unknown, *sender.verifiers)})
            for sender in (MINTED, CHOSEN)
        ]
    )
    authenticator.decoys = decoys_of(directory)
    for username, password, verdict in (
        ("minted", "m", Verdict.OK),
        ("minted", "c", Verdict.ERROR),
        ("chosen", "c", Verdict.OK),
        ("chosen", "m", Verdict.ERROR),
    ):
        asked = Asked(authenticator, directory, username, password)
        assert (await asked.verdict())[0] is verdict, (username, password)
