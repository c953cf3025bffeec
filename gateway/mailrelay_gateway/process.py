"""The gateway's process: joins the parts, and owns start, drain and stop; what a reload means for
each part is said here, when and how one comes about is `reload`'s.

The only module that knows all parts.
"""

from __future__ import annotations

import asyncio
import gc
import random
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import structlog

from mailrelay_gateway import __version__
from mailrelay_gateway.admin.endpoint import Sources
from mailrelay_gateway.admin.server import AdminServer
from mailrelay_gateway.admin.tls import AdminTls, placeholder
from mailrelay_gateway.contract.documents import SCHEMA, Certificate
from mailrelay_gateway.contract.files import RELAY_FILE, ConfigError, GatewayConfig
from mailrelay_gateway.contract.moments import rfc3339
from mailrelay_gateway.contract.status import GatewayStatus
from mailrelay_gateway.couriers.registry import Couriers, Parts
from mailrelay_gateway.couriers.resolver import SystemResolver
from mailrelay_gateway.couriers.sandbox.captured import CapturedMail
from mailrelay_gateway.couriers.sandbox.courier import SandboxCourier
from mailrelay_gateway.descriptors import sessions_for
from mailrelay_gateway.egress.client import Egress
from mailrelay_gateway.egress.rules import Rules, rules_of
from mailrelay_gateway.intake.places import Caps
from mailrelay_gateway.intake.smtp.listeners import Listeners, Prepared
from mailrelay_gateway.intake.tls import CertificateError, CertificateStore
from mailrelay_gateway.metrics import Metrics
from mailrelay_gateway.queue.disk.store import DiskStore
from mailrelay_gateway.queue.kept_quotas import KeptQuotas
from mailrelay_gateway.queue.retry import UNCERTAIN_DELAY
from mailrelay_gateway.queue.scheduler import Scheduler
from mailrelay_gateway.queue.store import StoreError
from mailrelay_gateway.reload import Reload, Step
from mailrelay_gateway.watchdog import end_after

log = structlog.get_logger()

EXIT_CONFIG = 2
EXIT_ADDRESS = 3
EXIT_SPOOL = 4

#: Seconds between two measurements of the loop's lag, and the lag at which the process counts as
#: stuck.
LAG_INTERVAL = 1.0
#: Total seconds for closing the parts after the drain. Pods have 30 s more than the grace period.
CLOSING = 7.5
#: Seconds that a commit may take before the process counts as stuck.
STUCK_AFTER = 60.0


class Stop(Exception):
    """Ends the process with an exit code and a sentence for stderr."""

    def __init__(self, code: int, sentence: str) -> None:
        """Set exit code and reason."""
        super().__init__(sentence)
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class Arguments:
    """The command-line arguments. Durations in seconds, sizes in octets."""

    config: Path
    spool: Path
    bind: str
    admin_host: str
    admin_port: int
    admin_tls: bool
    accept_for: float
    grace: float
    low_water: int
    queue_size: int | None
    require_config: bool
    tokens: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What a configuration needs besides itself to be put in force."""

    listeners: Prepared
    egress: Rules


class Gateway:
    """One gateway process."""

    def __init__(
        self, arguments: Arguments, *, descriptors: int, log_lines_dropped: Callable[[], int]
    ) -> None:
        """Create nothing yet; `run` does."""
        self.arguments = arguments
        self._descriptors = descriptors
        self._log_lines_dropped = log_lines_dropped
        self.metrics = Metrics()
        self._scheduling = False
        self.draining = False
        self._serving = False
        self._certificates = CertificateStore()
        self._admin_tls: AdminTls | None = None
        self._started_at = time.time()

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT, then drain. Raises Stop if it cannot continue."""
        loop = asyncio.get_running_loop()
        self._stop_asked = asyncio.Event()
        self._failure: asyncio.Future[str] = loop.create_future()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop_asked.set)
        self._reload = Reload(self.arguments.config, self, self.metrics)
        loop.add_signal_handler(signal.SIGHUP, self._reload.ask)
        self._make_parts()
        await self._start_admin()
        tasks = [
            loop.create_task(self._watch_lag()),
            loop.create_task(self._reload.watch(require=self.arguments.require_config)),
        ]
        try:
            await self._until_stopped(tasks[1])
        finally:
            for task in tasks:
                task.cancel()
            await self._drain()

    def _make_parts(self) -> None:
        arguments = self.arguments
        self._store = DiskStore(
            arguments.spool,
            metrics=self.metrics,
            on_failure=self._spool_failed,
            low_water=arguments.low_water,
            size=arguments.queue_size,
        )
        now = time.time()
        try:
            self._opened = self._store.open(now=now, uncertain_until=now + UNCERTAIN_DELAY)
        except StoreError as error:
            raise Stop(EXIT_SPOOL, str(error)) from None
        self._store.start(asyncio.get_running_loop())
        self._scheduler = Scheduler(
            self._store,
            metrics=self.metrics,
            rng=random.Random(),  # noqa: S311 - ids and jitter, no secrets
            quotas=KeptQuotas(arguments.spool),
        )
        self._egress = Egress(SystemResolver())
        self._couriers = Couriers(
            Parts(
                work=self._scheduler,
                metrics=self.metrics,
                folder=arguments.spool,
                egress=self._egress,
                tokens=arguments.tokens,
            )
        )
        sessions = sessions_for(self._descriptors)
        log.info("descriptors", descriptor_count=self._descriptors, session_count=sessions)
        self._listeners = Listeners(
            self._scheduler, self.metrics, bind=arguments.bind, caps=Caps(total=sessions)
        )
        mail = CapturedMail(self._couriers.find(SandboxCourier))
        self._admin = AdminServer(Sources(health=self, mail=mail, metrics=self.metrics))

    async def _start_admin(self) -> None:
        arguments = self.arguments
        if arguments.admin_tls:
            self._admin_tls = AdminTls(self._certificates.load((placeholder(),)).context)
        try:
            port = await self._admin.start(
                arguments.admin_host,
                arguments.admin_port,
                tls=self._admin_tls.context if self._admin_tls is not None else None,
            )
        except OSError as error:
            raise Stop(
                EXIT_ADDRESS,
                f"admin address {arguments.admin_host}:{arguments.admin_port}: {error.strerror};"
                " stop what uses it, or choose another with --admin",
            ) from None
        log.info("admin_listening", bind=arguments.admin_host, port=port)

    async def _until_stopped(self, config_task: asyncio.Task[None]) -> None:
        """Wait for a signal; a failed spool or a failed start end the process."""
        stop = asyncio.ensure_future(self._stop_asked.wait())
        waited: set[asyncio.Future[Any]] = {stop, self._failure, config_task}
        done, _ = await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if self._failure in done:
            raise Stop(EXIT_SPOOL, self._failure.result())
        if config_task in done:
            config_task.result()
            raise Stop(EXIT_CONFIG, self._reload.problem)

    # --- reload: Joined

    def prepare(self, config: GatewayConfig) -> Made:
        """Check a configuration, and make all that it needs."""
        if not config.relay.upstreams:
            raise ConfigError(RELAY_FILE, "field upstreams: is empty; a relay needs at least one")
        for courier in self._couriers.all.values():
            courier.prepare(config)
        return Made(listeners=self._listeners.prepare(config), egress=rules_of(config))

    def steps(self, config: GatewayConfig, prepared: Made) -> tuple[Step, ...]:
        """Queue and upstreams first, so that what intake takes has somewhere to go."""
        return (
            lambda: self.metrics.configure(config),
            lambda: self._egress.follow(prepared.egress),
            *(partial(courier.configure, config) for courier in self._couriers.all.values()),
            lambda: self._configure_queue(config),
            lambda: self._listeners.apply(prepared.listeners),
            lambda: self._show_admin_certificate(config.relay.admin_certificate),
        )

    async def open_ports(self) -> None:
        """The listeners' own: those that cannot be opened are tried again."""
        await self._listeners.open_ports()

    def serve(self, *, first: bool) -> None:
        """Mail may come. A start with a port that is taken is none."""
        if first:
            if self._listeners.problems():
                raise Stop(EXIT_ADDRESS, " ".join(self._listeners.problems()))
            _spare_the_collector()
        self._serving = True

    def _configure_queue(self, config: GatewayConfig) -> None:
        self._scheduler.attach(self._couriers.assign(config))
        if self._scheduling:
            self._scheduler.configure(config)
        else:
            self._scheduling = True
            self._scheduler.start(asyncio.get_running_loop(), config, self._opened)

    def _show_admin_certificate(self, certificate: Certificate | None) -> None:
        """An unusable one is no reason to refuse a configuration: mail does not depend on it."""
        if self._admin_tls is None or certificate is None:
            return
        try:
            found = self._certificates.load((certificate,))
        except CertificateError as error:
            log.error("admin_certificate_refused", error=f"The admin certificate {error}.")
            return
        self._admin_tls.show(found.context)
        self._certificates.keep((certificate,))

    # --- stop

    async def _drain(self) -> None:
        """Start no new attempt; keep accepting for a while, then refuse, and wait for deliveries in
        progress; then close the parts in the order of mail flow. Each step has a deadline.
        """
        self.draining = True
        failed = self._failure.done()
        grace = 0.0 if failed else self.arguments.grace
        accept_for = min(self.arguments.accept_for, grace) if self._serving else 0.0
        end_after(grace + 2 * CLOSING)
        log.info("draining", accept_seconds=accept_for, grace_seconds=grace)
        self._scheduler.stop_taking()
        await asyncio.gather(
            _ended("intake", self._listeners.stop(accept_for, grace - accept_for), grace + CLOSING),
            *(
                _ended(kind or "unknown", courier.stop(grace), grace + CLOSING)
                for kind, courier in self._couriers.all.items()
            ),
        )
        await _ended("spool", self._store.close(CLOSING / 3), CLOSING / 3)
        await _ended("admin", self._admin.stop(), CLOSING / 3)
        log.info("stopped")

    def _spool_failed(self, why: str) -> None:
        log.critical("spool_failed", error=why)
        self._scheduler.stop_taking()
        if not self._failure.done():
            self._failure.set_result(
                f"the spool has failed: {why}; queued mail is delivered after a restart"
            )

    # --- admin: Health

    def alive(self) -> str:
        """Answering proves that the loop runs; the spool must be able to write."""
        if self._failure.done():
            return "the spool has failed"
        waits = self._store.waiting_seconds()
        return f"the spool has not answered for {waits:.0f} s" if waits > STUCK_AFTER else ""

    def ready(self) -> str:
        """Whether listeners serve a configuration. Upstreams do not matter: mail is queued."""
        if self.draining:
            return "draining"
        if not self._serving:
            return self._reload.problem
        if not self._listeners.serving() and self._listeners.problems():
            return " ".join(self._listeners.problems())
        return self.alive() or self._store.too_small()

    def status(self) -> GatewayStatus:
        """The answer to GET /status."""
        in_force = self._reload.in_force
        config = in_force.config if in_force else None
        found = self._couriers.status()
        names = [upstream.name for upstream in config.relay.upstreams] if config else []
        return GatewayStatus(
            version=__version__,
            digest=config.digest if config else "",
            files=config.file_digests if config else {},
            schema_number=SCHEMA,
            problem=self._reload.problem,
            hostname=config.relay.hostname if config else "",
            started_at=rfc3339(self._started_at),
            accepting=self._serving and not self.draining,
            suspended=config.relay.suspend if config else False,
            listeners=self._listeners.serving(),
            ports=self._listeners.ports(),
            not_serving=self._listeners.problems(),
            upstreams=tuple(found[name] for name in names if name in found),
            queue=self._scheduler.status,
        )

    def token_sha256(self) -> str:
        """The SHA-256 of the token for /status."""
        in_force = self._reload.in_force
        return in_force.config.relay.admin_token_sha256 if in_force else ""

    async def _watch_lag(self) -> None:
        loop = asyncio.get_running_loop()
        dropped = 0
        while True:
            due = loop.time() + LAG_INTERVAL
            await asyncio.sleep(LAG_INTERVAL)
            self.metrics.loop_lag_seconds.set(max(0.0, loop.time() - due))
            dropped, told = self._log_lines_dropped(), dropped
            self.metrics.log_lines_dropped.inc(dropped - told)


async def _ended(part: str, ending: Awaitable[None], seconds: float) -> None:
    """Wait for a part to end, within a deadline; a failure does not affect the others, since
    accepted mail is on disk.
    """
    try:
        async with asyncio.timeout(seconds):
            await ending
    except TimeoutError:
        log.error("stop_overdue", part=part, seconds=seconds)
    except Exception:
        log.exception("internal_error", part=part)


def _spare_the_collector() -> None:
    """Exempt the objects of start-up from garbage collection, which would take 6 % of a message's
    CPU.

    Messages are freed by reference counting; the collector is for the rare cycle.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
