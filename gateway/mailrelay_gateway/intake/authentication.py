"""Checks passwords: verifiers, scrypt in one bounded pool, and a cache of successes.

Sessions ask, and get the verdict by callback, at once where no scrypt has to be computed. A
password is never kept: what is remembered is a keyed hash of it together with the verifier it
matched, under a key that this process made at start. An unknown username costs what a known one
would: it is checked against a decoy like one of the verifiers in use.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum

import structlog

from mailrelay_gateway.contract.documents import (
    ScryptVerifier,
    Sha256Verifier,
    UnknownKind,
    Verifier,
)
from mailrelay_gateway.contract.moments import parse_rfc3339
from mailrelay_gateway.intake.login_queue import LoginQueue
from mailrelay_gateway.policy.senders import Directory, SenderEntry
from mailrelay_gateway.smtp.server.sasl import Credentials

log = structlog.get_logger()

#: Threads that compute scrypt: at N = 2^15 each takes about 80 ms and 32 MiB.
SCRYPT_THREADS = 2
#: Seconds for which a success is remembered, and how many are.
REMEMBER_SECONDS = 300.0
REMEMBER_COUNT = 4096


class Verdict(StrEnum):
    """The result of a login; the label `result` of auth_attempts_total."""

    OK = "ok"
    FAILED = "failed"
    BUSY = "busy"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Login:
    """A successful login: whose, and with which verifier, so that it ends when that verifier is
    removed.
    """

    entry: SenderEntry
    verifier: Verifier

    def entry_in(self, directory: Directory) -> SenderEntry | None:
        """Who logged in, according to that configuration; None if the sender or its verifier is
        gone.
        """
        entry = directory.by_uid.get(self.entry.identity.uid)
        return entry if entry is not None and self.verifier in entry.verifiers else None


Done = Callable[[Verdict, Login | None], None]


@dataclass(frozen=True, slots=True)
class _Slow:
    """A login that needs scrypt."""

    entry: SenderEntry | None
    verifiers: list[ScryptVerifier]
    password: bytes
    wrong: Verdict  # where none of them matches
    wanted: Callable[[], bool]  # whether anyone still waits for the verdict
    done: Done


_DECOY_SHA256 = Sha256Verifier(hash="00" * 32, until="")


def decoys_of(directory: Directory) -> tuple[Verifier, ...]:
    """A verifier of each kind and cost that the directory's senders have, which matches no
    password.
    """
    decoys: dict[tuple[object, ...], Verifier] = {}
    for entry in directory.by_uid.values():
        for verifier in entry.verifiers[:1]:
            if isinstance(verifier, UnknownKind):
                continue
            key = (verifier.kind, *_cost(verifier))
            if key in decoys:
                continue
            decoys[key] = (
                verifier.model_copy(update={"salt": "00" * 16, "hash": "00" * 32})
                if isinstance(verifier, ScryptVerifier)
                else _DECOY_SHA256
            )
    return tuple(decoys.values()) or (_DECOY_SHA256,)


class Authenticator:
    """Checks credentials against a directory. One for the whole gateway."""

    def __init__(
        self, *, loop: asyncio.AbstractEventLoop, now: Callable[[], float] = time.time
    ) -> None:
        """Create the pool; its threads start with the first scrypt. `now` is Unix time."""
        self._loop = loop
        self._now = now
        self._pool = ThreadPoolExecutor(SCRYPT_THREADS, thread_name_prefix="scrypt")
        self._computing = 0
        self._waiting: LoginQueue[_Slow] = LoginQueue()
        self._secret = secrets.token_bytes(32)
        self._remembered: OrderedDict[bytes, float] = OrderedDict()  # until when, by keyed hash
        #: From the verifiers in use, so that unknown usernames cannot be told from known ones
        #: (`decoys_of`).
        self.decoys: tuple[Verifier, ...] = (_DECOY_SHA256,)

    def check(
        self,
        directory: Directory,
        credentials: Credentials,
        client: str,
        wanted: Callable[[], bool],
        done: Done,
    ) -> None:
        """Call `done` in the loop, at once or later, with the verdict on what `client` (an IP
        address) sent; not at all if it is no longer wanted.
        """
        entry = directory.by_username.get(credentials.username)
        password = credentials.password.encode()
        verifiers = entry.verifiers if entry else (self._decoy(credentials.username),)
        slow: list[ScryptVerifier] = []
        wrong = Verdict.FAILED
        for verifier in verifiers:
            if isinstance(verifier, ScryptVerifier):
                if entry is not None and self._remembers(verifier, password):
                    done(Verdict.OK, Login(entry, verifier))
                    return
                slow.append(verifier)
            elif isinstance(verifier, Sha256Verifier):
                right = _matches_sha256(verifier, password) and not self._has_ended(verifier)
                if right and entry is not None:
                    done(Verdict.OK, Login(entry, verifier))
                    return
            else:
                wrong = Verdict.ERROR  # only a newer gateway can check it: 4xx
        if not slow:
            done(wrong, None)
            return
        job = _Slow(entry, slow, password, wrong, wanted, done)
        displaced = self._waiting.add(client, credentials.username, job)
        if displaced is not None and displaced.wanted():
            displaced.done(Verdict.BUSY, None)
        self._compute()

    def _has_ended(self, verifier: Sha256Verifier) -> bool:
        """Whether it has expired, even if it was not removed yet."""
        end = parse_rfc3339(verifier.until) if verifier.until else None
        return end is not None and end.timestamp() <= self._now()

    def _compute(self) -> None:
        """Give free threads the logins whose turn it is."""
        while self._computing < SCRYPT_THREADS:
            job = self._waiting.take()
            if job is None:
                return
            if not job.wanted():
                continue
            self._computing += 1
            result = self._loop.run_in_executor(
                self._pool, _find_scrypt, job.verifiers, job.password
            )
            result.add_done_callback(functools.partial(self._computed, job))

    def alias(self, username: str) -> str:
        """An unknown username for the log: always the same for the same name, and not
        reversible.
        """
        hashed = hashlib.blake2b(username.encode(), key=self._secret, digest_size=4).hexdigest()
        return f"unknown ({hashed})"

    def close(self) -> None:
        """Let the threads end; their results are dropped."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _computed(self, job: _Slow, result: asyncio.Future[ScryptVerifier | None]) -> None:
        self._computing -= 1
        if result.cancelled():
            job.done(Verdict.BUSY, None)
            return  # the threads are gone
        if (error := result.exception()) is not None:
            log.error("internal_error", exc_info=error)
            job.done(Verdict.ERROR, None)
        elif (verifier := result.result()) is None or job.entry is None:
            job.done(job.wrong, None)
        else:
            self._remember(verifier, job.password)
            job.done(Verdict.OK, Login(job.entry, verifier))
        self._compute()

    def _decoy(self, username: str) -> Verifier:
        """One of the decoys, always the same for a username, unpredictable from outside."""
        chosen = hashlib.blake2b(username.encode(), key=self._secret, digest_size=8).digest()
        return self.decoys[int.from_bytes(chosen, "big") % len(self.decoys)]

    def _hash(self, verifier: ScryptVerifier, password: bytes) -> bytes:
        keyed = hashlib.blake2b(key=self._secret, digest_size=32)
        keyed.update(
            f"{verifier.n} {verifier.r} {verifier.p} {verifier.salt} {verifier.hash}\n".encode()
        )
        keyed.update(password)
        return keyed.digest()

    def _remembers(self, verifier: ScryptVerifier, password: bytes) -> bool:
        key = self._hash(verifier, password)
        until = self._remembered.get(key)
        if until is None:
            return False
        if until < self._loop.time():
            del self._remembered[key]
            return False
        self._remembered.move_to_end(key)
        return True

    def _remember(self, verifier: ScryptVerifier, password: bytes) -> None:
        self._remembered[self._hash(verifier, password)] = self._loop.time() + REMEMBER_SECONDS
        if len(self._remembered) > REMEMBER_COUNT:
            self._remembered.popitem(last=False)


def _cost(verifier: Verifier) -> tuple[int, ...]:
    return (verifier.n, verifier.r, verifier.p) if isinstance(verifier, ScryptVerifier) else ()


def _matches_sha256(verifier: Sha256Verifier, password: bytes) -> bool:
    computed = hashlib.sha256(password).hexdigest()
    return hmac.compare_digest(computed, verifier.hash.lower())


def _find_scrypt(verifiers: list[ScryptVerifier], password: bytes) -> ScryptVerifier | None:
    """In a thread of the pool: the first verifier that the password matches (RFC 7914)."""
    for verifier in verifiers:
        expected = bytes.fromhex(verifier.hash)
        computed = hashlib.scrypt(
            password,
            salt=bytes.fromhex(verifier.salt),
            n=verifier.n,
            r=verifier.r,
            p=verifier.p,
            # it needs 128 * r * n octets; the rest is OpenSSL's overhead
            maxmem=128 * verifier.r * (verifier.n + verifier.p + 32),
            dklen=len(expected) or 32,
        )
        if hmac.compare_digest(computed, expected):
            return verifier
    return None
