"""Tokens that are fetched before they expire, one fetch at a time, and kept in memory. Where they
come from is up to the subclass: an OAuth2 endpoint (`source`) or AWS's STS.

Tokens never appear in a log line or a `repr`. There is no fallback to another login.
"""

from __future__ import annotations

import asyncio
import random
import ssl
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

import structlog

from mailrelay_gateway.contract.oauth2 import TOKENS_FOLDER, token_file_name
from mailrelay_gateway.couriers.oauth2.answers import Grant, NoToken
from mailrelay_gateway.couriers.oauth2.kept import KeptTokens
from mailrelay_gateway.couriers.oauth2.schedule import Held, pause, take, usable
from mailrelay_gateway.egress.client import Answer
from mailrelay_gateway.metrics import Metrics
from mailrelay_gateway.reasons import Reason

log = structlog.get_logger()

_T = TypeVar("_T")

#: Octets of such a token: they have 1 to 2 KiB.
MAX_OWN_TOKEN = 16 * 1024
#: Seconds for which a failure is the answer to all callers, so that concurrent connections cause
#: one request.
REMEMBERED = 1.0


class Post(Protocol):
    """How requests are sent: the part of `Egress` that is needed here."""

    async def post(
        self,
        url: str,
        body: bytes,
        *,
        headers: Mapping[str, str],
        tls: ssl.SSLContext | None = None,
    ) -> Answer:
        """The answer, within a deadline. Raises NotAllowed and Unreachable."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenSurroundings:
    """What all sources share. `clock` returns Unix seconds."""

    egress: Post
    metrics: Metrics
    kept: KeptTokens | None = None
    tokens: Path = Path(TOKENS_FOLDER)
    rng: random.Random = field(default_factory=random.Random)
    clock: Callable[[], float] = time.time


class TokenFetcher(ABC):
    """The tokens of one upstream. Lives in one event loop; `stop` ends it."""

    def __init__(
        self,
        upstream: str,
        around: TokenSurroundings,
        *,
        on_failure: Callable[[NoToken], None],
        on_token: Callable[[], None],
    ) -> None:
        """Fetch a first token at once, and a new one before each expires. `on_failure` is called
        when there is no token and a fetch has failed, `on_token` when there is one again.
        """
        self._upstream = upstream
        self._around = around
        self._on_failure = on_failure
        self._on_token = on_token
        self._loop = asyncio.get_running_loop()
        self._held: Held | None = None
        self._fetching: asyncio.Task[NoToken | None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._failure: NoToken | None = None  # of the last fetch
        self._failed_at = 0.0
        self._failures = 0  # in a row
        self._learnt = False  # from a refusal, what to send instead
        self._stopped = False
        around.metrics.oauth_token_expiry_seconds(upstream).ends_at = 0.0
        self._begin()

    @abstractmethod
    async def _ask(self) -> Grant | NoToken:
        """Ask for a token once. Sets `_learnt` if the answer says what to send instead."""

    def __repr__(self) -> str:
        """The upstream, and whether there is a usable token."""
        return f"<TokenSource {self._upstream} usable={usable(self._held, self._loop.time())}>"

    async def token(self) -> str | NoToken:
        """A token that is usable now, or why there is none. Concurrent callers share one fetch;
        each waits no longer than a request may take.
        """
        held = self._held
        if held is not None and usable(held, self._loop.time()):
            return held.access_token
        if self._stopped:
            return NoToken(reason=Reason.SHUTTING_DOWN, detail="is no longer asked")
        if self._fetching is None and (known := self._remembered()) is not None:
            return known
        task = self._fetching or self._begin()
        failure = await asyncio.shield(task)
        held = self._held
        if failure is None and held is not None:
            return held.access_token  # just fetched: valid now, however short its lifetime
        return (
            failure
            or self._failure
            or NoToken(
                reason=Reason.UPSTREAM_TOKEN_UNAVAILABLE,
                detail="gave a token that was refused at once",
            )
        )

    def rejected(self, token: str) -> None:
        """The upstream rejected this token: do not use it again."""
        if self._held is not None and self._held.access_token == token:
            log.warning("oauth_token_rejected", upstream=self._upstream)
            self._held = None
            self._show()

    def reject_present(self) -> None:
        """The upstream no longer accepts the current token: do not use it again."""
        if self._held is not None:
            self.rejected(self._held.access_token)

    def replaced(self, token: str) -> bool:
        """Whether this token is no longer the current one (it is about to expire, or was rejected),
        so that a session logged in with it should be closed. Called for every message.
        """
        held = self._held
        if held is None or held.access_token == token:
            return False
        return usable(held, self._loop.time())

    @property
    def expires_at(self) -> float:
        """When the current token expires, by the loop's clock; 0 without one."""
        return self._held.expires_at if self._held is not None else 0.0

    def stop(self) -> None:
        """Stop fetching."""
        self._stopped = True
        self._held = None
        if self._timer is not None:
            self._timer.cancel()
        if self._fetching is not None:
            self._fetching.cancel()

    # --- fetching

    def _begin(self) -> asyncio.Task[NoToken | None]:
        assert self._fetching is None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._fetching = self._loop.create_task(self._fetch())
        self._fetching.add_done_callback(self._ended)
        return self._fetching

    def _remembered(self) -> NoToken | None:
        """The last failure, while it is too early for another request."""
        failure = self._failure
        if failure is None:
            return None
        rest = max(REMEMBERED, failure.wait or 0.0)
        return failure if self._loop.time() < self._failed_at + rest else None

    async def _fetch(self) -> NoToken | None:
        """Fetch a token; None on success."""
        try:
            self._learnt = False
            found = await self._ask()
            if isinstance(found, NoToken) and found.refused and self._learnt:
                found = await self._ask()
        except asyncio.CancelledError:
            raise
        except Exception as error:  # report internal errors on the upstream, too
            log.exception("internal_error", upstream=self._upstream)
            found = NoToken(reason=Reason.INTERNAL_ERROR, detail=f"{type(error).__name__}")
        if isinstance(found, NoToken):
            return found
        self._held = take(found, now=self._loop.time(), jitter=self._around.rng.random())
        log.info(
            "oauth_token_fetched",
            upstream=self._upstream,
            expires_in_seconds=round(found.life),
        )
        return None

    def _ended(self, task: asyncio.Task[NoToken | None]) -> None:
        self._fetching = None
        if task.cancelled() or self._stopped:
            return
        self._failure = failure = task.result()
        now = self._loop.time()
        self._show()
        if failure is None:
            assert self._held is not None
            again, self._failures = self._failures > 0, 0
            self._again_at(self._held.renew_at)
            if again:
                self._on_token()
            return
        self._failures += 1
        self._failed_at = now
        seconds = pause(self._failures, failure.wait, self._around.rng.random())
        log.warning(
            "oauth_token_failed",
            upstream=self._upstream,
            reason=failure.reason.value,
            detail=failure.detail,
            probe_in_seconds=round(seconds, 1),
        )
        self._again_at(now + seconds)
        if not usable(self._held, now):
            self._on_failure(failure)

    def _again_at(self, when: float) -> None:
        self._timer = self._loop.call_at(when, self._ring)

    def _ring(self) -> None:
        self._timer = None
        if self._fetching is None and not self._stopped:
            self._begin()

    def _show(self) -> None:
        if not self._stopped:  # the name may belong to another source by now
            gauge = self._around.metrics.oauth_token_expiry_seconds(self._upstream)
            gauge.ends_at = self.expires_at

    async def _own_token(self, audience: str) -> str | NoToken:
        """The pod's ServiceAccount token, which the kubelet renews."""
        path = self._around.tokens / token_file_name(audience)
        try:
            octets = await self._in_thread(lambda: _read_bounded(path))
            found = octets.decode("ascii").strip()
        except (OSError, ValueError) as error:
            words = error.strerror if isinstance(error, OSError) else "is no token"
            found, why = "", str(words)
        else:
            why = "is empty"
        if found:
            return found
        return NoToken(
            reason=Reason.UPSTREAM_TOKEN_UNAVAILABLE,
            detail=f"the ServiceAccount token for the audience {audience} cannot be read from"
            f" {path}: {why}",
        )

    async def _in_thread(self, call: Callable[[], _T]) -> _T:
        return await self._loop.run_in_executor(None, call)


def _read_bounded(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAX_OWN_TOKEN)
