"""Computes scrypt, which is slow on purpose, in its own thread pool: a round requests a verifier
and continues without it; its key is rung when the verifier is ready.

Each verifier is kept, so that none is computed twice.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from mailrelay_gateway.contract.documents import ScryptVerifier
from mailrelay_operator.engine.backlog import Key
from mailrelay_operator.engine.minting import scrypt_verifier
from mailrelay_operator.plan.facts import ScryptWanted

#: Threads that compute verifiers. One: each computation takes 32 MiB and a core for some 60 ms;
#: 2,500 existing passwords take two and a half minutes after a start.
THREADS = 1
#: Key of the passwords' fingerprints, so that a core dump contains nothing to look up.
_FINGERPRINT_KEY = secrets.token_bytes(32)


class Verifiers:
    """Verifiers of existing passwords, by key. One per process; `close` at the end."""

    def __init__(self, ring: Callable[[Key], None]) -> None:
        """Call `ring` when a requested verifier is ready."""
        self._ring = ring
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="scrypt")
        self._made: dict[Key, tuple[bytes, ScryptVerifier]] = {}
        self._pending: dict[Key, bytes] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def close(self) -> None:
        """Start no more computations."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def find(self, key: Key, wanted: ScryptWanted) -> ScryptVerifier | None:
        """The verifier of this password; None: it is being computed, and the key will be rung."""
        mark = hmac.digest(_FINGERPRINT_KEY, wanted.password, "sha256")
        known, verifier = self._made.get(key, (b"", None))
        if verifier is not None and hmac.compare_digest(known, mark):
            return verifier
        if self._pending.get(key) != mark:
            self._pending[key] = mark
            task = asyncio.get_running_loop().create_task(self._compute(key, mark, wanted))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return None

    async def idle(self) -> None:
        """Return once nothing is being computed."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def forget(self, key: Key) -> None:
        """Drop the verifier of a deleted sender."""
        self._made.pop(key, None)
        self._pending.pop(key, None)

    async def _compute(self, key: Key, mark: bytes, wanted: ScryptWanted) -> None:
        loop = asyncio.get_running_loop()
        verifier = await loop.run_in_executor(self._pool, scrypt_verifier, wanted)
        if self._pending.get(key) != mark:
            return  # dropped, or superseded by another password
        del self._pending[key]
        self._made[key] = (mark, verifier)
        self._ring(key)
