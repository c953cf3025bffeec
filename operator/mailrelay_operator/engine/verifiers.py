"""scrypt, which is slow on purpose, in a pool of its own: a round asks for a verifier and goes on
without; its key is rung when the verifier is there.

Each verifier is kept as it is made, so that no work is ever done twice, however many there are.
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

#: Threads that compute verifiers. One: each takes 32 MiB and a core for some 60 ms, and the rest of
#: the operator has work to do; 2,500 brought passwords take two and a half minutes at first sight.
THREADS = 1
#: Fingerprints of passwords are keyed, so that a core dump holds nothing to look up.
_FINGERPRINT_KEY = secrets.token_bytes(32)


class Verifiers:
    """Verifiers of brought passwords, by the key that asked. One per process; `close` at the
    end."""

    def __init__(self, ring: Callable[[Key], None]) -> None:
        """Call `ring` when a verifier that somebody asked for is there."""
        self._ring = ring
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="scrypt")
        self._made: dict[Key, tuple[bytes, ScryptVerifier]] = {}
        self._pending: dict[Key, bytes] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def close(self) -> None:
        """Begin nothing more."""
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
        """The sender is gone."""
        self._made.pop(key, None)
        self._pending.pop(key, None)

    async def _compute(self, key: Key, mark: bytes, wanted: ScryptWanted) -> None:
        loop = asyncio.get_running_loop()
        verifier = await loop.run_in_executor(self._pool, scrypt_verifier, wanted)
        if self._pending.get(key) != mark:
            return  # forgotten, or another password by now
        del self._pending[key]
        self._made[key] = (mark, verifier)
        self._ring(key)
