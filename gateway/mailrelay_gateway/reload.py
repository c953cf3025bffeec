"""Reload: the newest configuration is read, made ready in a thread, and put in force whole; or
nothing is changed, and the last good one stays. What that means for the parts is the process's.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import structlog

from mailrelay_gateway.contract.files import ConfigError, GatewayConfig, load
from mailrelay_gateway.folder import ConfigFolder, Unreadable
from mailrelay_gateway.metrics import Metrics

log = structlog.get_logger()

#: Seconds between two checks of the configuration's files.
CONFIG_INTERVAL = 0.5

P = TypeVar("P")
Step = Callable[[], None]


class Joined(Protocol[P]):
    """The parts, for which a configuration is made ready and put in force; P is what they need
    besides.
    """

    def prepare(self, config: GatewayConfig) -> P:
        """Check it, and make what it needs; ConfigError. In a thread, since thousands of senders
        take a while.
        """

    def steps(self, config: GatewayConfig, prepared: P) -> Sequence[Step]:
        """What puts it in force. No step waits, and none fails."""

    async def open_ports(self) -> None:
        """What may wait, once all steps were taken."""

    def serve(self, *, first: bool) -> None:
        """It is in force."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InForce(Generic[P]):
    """A prepared configuration, ready to be applied or restored."""

    config: GatewayConfig
    prepared: P


class Reload(Generic[P]):
    """Follows the configuration's folder."""

    def __init__(self, path: Path, joined: Joined[P], metrics: Metrics) -> None:
        """Read nothing yet; `watch` does."""
        self.in_force: InForce[P] | None = None
        self.problem = "no configuration has been read yet"  # why the newest one is not in effect
        self._folder = ConfigFolder(path)
        self._joined = joined
        self._metrics = metrics
        self._torn = False  # applying a configuration failed half-way
        self._unreadable = False  # the last one could not be read
        self._preparing = ThreadPoolExecutor(1, thread_name_prefix="config")
        self._asked = asyncio.Event()

    def ask(self) -> None:
        """Read again, whether or not the files changed."""
        self._asked.set()

    async def watch(self, *, require: bool) -> None:
        """Read the configuration now, whenever its files change, and when asked. Ends only where
        there is none to be had and `require`.
        """
        loop = asyncio.get_running_loop()
        seen: object = None
        while True:
            # in a thread: a folder that does not answer must not block mail
            fingerprint = await loop.run_in_executor(self._preparing, self._folder.fingerprint)
            if fingerprint != seen or self._unreadable or self._asked.is_set():
                self._asked.clear()
                seen = fingerprint
                await self._read()
                if self.in_force is None and require:
                    return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CONFIG_INTERVAL):
                    await self._asked.wait()

    async def _read(self) -> None:
        """Apply the newest configuration as a whole, or not at all."""
        loop = asyncio.get_running_loop()
        again, self._unreadable = self._unreadable, False
        try:
            ready = await loop.run_in_executor(self._preparing, self._prepare)
        except Unreadable as error:
            self._unreadable = True  # nothing would tell that it can be read
            if not again or str(error) != self.problem:
                self._refuse(str(error))
            return
        except ConfigError as error:
            self._refuse(str(error))
            return
        except Exception as error:  # an internal error must not stop a working gateway
            log.exception("internal_error")
            self._refuse(f"{type(error).__name__}: {error}")
            return
        if ready is None:
            self.problem = ""
            return
        before = self.in_force
        failed = put_in_force(self._steps(ready), self._steps(before) if before else ())
        self._torn = failed is not None
        if failed is not None:
            self._refuse(f"{type(failed).__name__}: {failed}")
            return
        await self._joined.open_ports()
        self.in_force = ready
        self.problem = ""
        self._metrics.config_reloads("ok").inc()
        for unknown in ready.config.unknown_fields:
            log.warning("config_field_unknown", field=unknown)
        log.info(
            "config_loaded",
            digest=ready.config.digest,
            sender_count=len(ready.config.senders),
            listeners=[listener.name for listener in ready.config.relay.listeners],
            upstreams=[upstream.name for upstream in ready.config.relay.upstreams],
        )
        self._joined.serve(first=before is None)
        await loop.run_in_executor(self._preparing, self._metrics.admit, ready.config)
        # Freeing thousands of senders takes a while: not on the loop.
        forgotten = _Forgotten(before)
        del before, ready
        self._preparing.submit(forgotten)

    def _prepare(self) -> InForce[P] | None:
        """Read a configuration and make it ready; None if it is in force already."""
        config = load(self._folder.read())
        present = self.in_force
        if present is not None and config.digest == present.config.digest and not self._torn:
            return None
        return InForce(config=config, prepared=self._joined.prepare(config))

    def _steps(self, ready: InForce[P]) -> Sequence[Step]:
        return self._joined.steps(ready.config, ready.prepared)

    def _refuse(self, why: str) -> None:
        self.problem = why
        self._metrics.config_reloads("failed").inc()
        digest = self.in_force.config.digest if self.in_force else ""
        log.error("config_refused", error=why, digest=digest)


def put_in_force(steps: Sequence[Step], back: Sequence[Step]) -> Exception | None:
    """Run all steps. If one raises (an internal error, which must not stop a working gateway),
    restore the previous configuration with the steps `back`, independently of each other, and
    return the exception.
    """
    try:
        for step in steps:
            step()
    except Exception as error:
        log.exception("internal_error")
        for step in back:
            try:
                step()
            except Exception:  # restore the other parts nevertheless
                log.exception("internal_error")
        return error
    return None


class _Forgotten:
    """Drops a reference when called, in any thread."""

    def __init__(self, what: object) -> None:
        self._what = what

    def __call__(self) -> None:
        self._what = None
