"""The listeners and their sessions: started, reloaded in place and stopped as the configuration
says.

A configuration is prepared in full before anything changes (`prepare`), then takes effect at once
(`apply`); ports are opened after that, and retried while they cannot be (`open_ports`). A reload
never drops open sessions: they see the new settings at their next transaction.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

import structlog

from mailrelay_gateway.contract.documents import Listener, Rate, RelayDocument, TlsMode, Verifier
from mailrelay_gateway.contract.files import RELAY_FILE, ConfigError, GatewayConfig
from mailrelay_gateway.intake.authentication import decoys_of
from mailrelay_gateway.intake.budget import InFlightBudget
from mailrelay_gateway.intake.commons import Commons, Timeouts
from mailrelay_gateway.intake.handover import Intake
from mailrelay_gateway.intake.listener import Guest, OpenListener
from mailrelay_gateway.intake.places import Caps
from mailrelay_gateway.intake.smtp.port import Port, bind, explain, shown
from mailrelay_gateway.intake.smtp.settings import SmtpListener, SmtpSettings, compile_settings
from mailrelay_gateway.intake.tls import CertificateError, CertificateStore
from mailrelay_gateway.metrics import Metrics
from mailrelay_gateway.policy.routing import Routing
from mailrelay_gateway.policy.senders import Directory, compile_directory

log = structlog.get_logger()

#: Seconds between two updates of gauges that change by themselves: use of limits, expiry of
#: certificates.
HOUSEKEEPING = 1.0


#: Seconds until opening a port is retried: the first time, and at most.
RETRY_FIRST = 0.5
RETRY_LONGEST = 30.0

#: The number of a port, or the listener's name if any number will do.
PortKey = int | str


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A prepared configuration: what `Listeners.apply` puts into effect."""

    settings: Mapping[str, SmtpSettings]
    ports: Mapping[str, PortKey]
    certificates: CertificateStore
    directory: Directory
    decoys: tuple[Verifier, ...]
    namespaces: Mapping[str, str]  # by the UID of a sender
    rates: tuple[Rate, ...]
    replicas: int


class Listeners:
    """All listeners of the gateway."""

    def __init__(
        self,
        intake: Intake,
        metrics: Metrics,
        *,
        bind: str = "",
        timeouts: Timeouts | None = None,
        caps: Caps | None = None,
        budget: InFlightBudget | None = None,
    ) -> None:
        """Listen on the address `bind` ("": all, IPv6 and IPv4). Created within a running event
        loop.
        """
        self._bind = bind
        self._loop = asyncio.get_running_loop()
        self._commons = Commons(
            intake=intake,
            metrics=metrics,
            loop=self._loop,
            timeouts=timeouts or Timeouts(),
            caps=caps or Caps(),
            budget=budget or InFlightBudget(),
        )
        self._certificates = CertificateStore()
        self._open: dict[str, SmtpListener] = {}
        self._ports: dict[PortKey, Port] = {}
        self._wanted: dict[str, PortKey] = {}  # by listener
        self._stand_ins: dict[str, PortKey] = {}  # old ports of listeners whose new one is not open
        self._problems: dict[str, str] = {}  # of listeners whose port cannot be opened
        self._closing: set[SmtpListener] = set()  # no longer configured, with sessions left
        self._opening = asyncio.Lock()
        self._retry: asyncio.TimerHandle | None = None
        self._pause = RETRY_FIRST
        self._retrying: asyncio.Task[None] | None = None
        self._stopping = False
        self._namespaces: Mapping[str, str] = {}
        self._gauges: set[tuple[str, str]] = set()
        self._housekeeping = self._loop.call_later(HOUSEKEEPING, self._keep_house)

    # --- configuration

    def prepare(self, config: GatewayConfig) -> Prepared:
        """Everything that a configuration needs, created and checked; nothing is changed. May be
        called in any thread; ConfigError names the listener and the problem.
        """
        relay = config.relay
        directory = compile_directory(config.senders)
        routing = Routing(relay)
        certificates = self._certificates.copy()
        settings = {
            listener.name: _compile(listener, relay, directory, routing, certificates)
            for listener in relay.listeners
        }
        ports: dict[PortKey, str] = {}
        for listener in relay.listeners:
            other = ports.setdefault(_port_key(listener), listener.name)
            if other != listener.name:
                raise ConfigError(
                    RELAY_FILE,
                    f"listeners {other} and {listener.name} have the same port {listener.port};"
                    " give one of them another",
                )
        certificates.keep(
            tuple(each for listener in relay.listeners for each in listener.tls.certificates)
        )
        return Prepared(
            settings=settings,
            ports={listener.name: _port_key(listener) for listener in relay.listeners},
            certificates=certificates,
            directory=directory,
            decoys=decoys_of(directory),
            namespaces={sender.uid: sender.namespace for sender in config.senders},
            rates=relay.limits.rates,
            replicas=relay.replicas,
        )

    def apply(self, prepared: Prepared) -> None:
        """Put a configuration into effect, completely and at once; nothing here fails. Ports are
        opened by `open_ports`: logins, limits and revocations do not wait for them.
        """
        commons = self._commons
        commons.limits.configure(prepared.rates, replicas=prepared.replicas)
        commons.authenticator.decoys = prepared.decoys
        self._certificates = prepared.certificates
        self._namespaces = prepared.namespaces
        before, self._open = self._open, {}
        for name, settings in prepared.settings.items():
            present = before.get(name)
            if present is not None and self._wanted[name] == prepared.ports[name]:
                present.configure(settings)
                self._open[name] = present
            else:
                self._open[name] = OpenListener(settings, commons)
        self._settle_ports(prepared.ports)
        self._problems = {name: why for name, why in self._problems.items() if name in self._open}
        for name, present in before.items():
            if self._open.get(name) is not present:
                self._closing.add(present)
        for present in self._closing:  # senders that were revoked are revoked in their sessions too
            present.configure(replace(present.settings, directory=prepared.directory))
        self._pause = RETRY_FIRST

    def _settle_ports(self, wanted: Mapping[str, PortKey]) -> None:
        """Assign open ports to the listeners that now have them, and close unused ones. A listener
        that moves keeps its old port until the new one is open.
        """
        old = self._wanted | self._stand_ins
        self._wanted = dict(wanted)
        claimed = set(wanted.values())
        self._stand_ins = {
            name: old[name]
            for name, key in wanted.items()
            if key not in self._ports and old.get(name) in self._ports and old[name] not in claimed
        }
        for name, key in (self._wanted | self._stand_ins).items():
            if key in self._ports:
                self._ports[key].hand_to(self._open[name])
        for key in self._ports.keys() - claimed - set(self._stand_ins.values()):
            self._close_port(key)

    def _close_port(self, key: PortKey) -> None:
        port = self._ports.pop(key)
        port.close()
        log.info("port_closed", port=port.number)

    async def open_ports(self) -> None:
        """Open what is not open yet. Ports that cannot be opened are reported in `problems` and
        retried, after growing pauses, until they can be opened or are no longer wanted.
        """
        async with self._opening:
            if self._retry is not None:
                self._retry.cancel()
                self._retry = None
            for name, key in list(self._wanted.items()):
                if not self._stopping and self._wanted.get(name) == key:
                    await self._open_port(name, key)
            if self._problems and not self._stopping:
                self._retry = self._loop.call_later(self._pause, self._open_again)
                self._pause = min(2 * self._pause, RETRY_LONGEST)
            self._show_gauges()

    async def _open_port(self, name: str, key: PortKey) -> None:
        number = key if isinstance(key, int) else 0
        fresh = key not in self._ports
        try:
            if fresh:
                self._ports[key] = Port(bind(self._bind, number), self._commons)
                self._ports[key].hand_to(self._open[name])
            await self._ports[key].serve()
        except Exception as error:  # an OSError, or a defect of ours, which stops no other listener
            where = shown(self._bind, number)
            why = f"Listener {name} cannot listen on {where}: {explain(error)}"
            stand_in = self._ports.get(self._stand_ins.get(name, ""))
            if stand_in is not None:
                with suppress(OSError):
                    await stand_in.serve()
                why += f" Until then it stays on port {stand_in.number}."
            if self._problems.get(name) != why:
                log.error("listener_not_serving", listener=name, port=number, error=why)
            self._problems[name] = why
            return
        if fresh or name in self._problems:
            log.info("listening", listener=name, port=self._ports[key].number)
        self._problems.pop(name, None)
        if name in self._stand_ins:
            self._close_port(self._stand_ins.pop(name))

    def _open_again(self) -> None:
        self._retry = None
        self._retrying = self._loop.create_task(self.open_ports())

    def problems(self) -> tuple[str, ...]:
        """Why listeners do not serve where they should, one sentence each; empty when all do."""
        return tuple(self._problems.values())

    def serving(self) -> tuple[str, ...]:
        """The listeners that serve, by name."""
        return tuple(self.ports())

    def ports(self) -> dict[str, int]:
        """The bound port of each listener that serves, by name."""
        keys = {
            name: key
            for name, key in self._wanted.items()
            if key in self._ports and name not in self._problems
        }
        return {name: self._ports[key].number for name, key in (keys | self._stand_ins).items()}

    @property
    def sessions(self) -> int:
        """Open sessions of all listeners."""
        return sum(len(each.sessions) for each in (*self._open.values(), *self._closing))

    async def stop(self, accept_for: float, wait: float) -> None:
        """Accept for `accept_for` seconds more (clients still have our address), then send 421 to
        idle sessions, and close the rest after `wait` seconds.
        """
        await asyncio.sleep(accept_for)
        self._stopping = True
        if self._retry is not None:
            self._retry.cancel()
        for port in self._ports.values():
            port.close()
        listeners = [*self._open.values(), *self._closing]
        for session in _sessions(listeners):
            session.say_goodbye()
        await self._wait_until_quiet(listeners, wait)
        for session in _sessions(listeners):
            session.abort()
        await self._wait_until_quiet(listeners, 1.0)
        self._housekeeping.cancel()
        self._commons.close()

    async def _wait_until_quiet(self, listeners: list[SmtpListener], seconds: float) -> None:
        """Wait until no session is left; those that were answered 421 close themselves."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                for each in listeners:
                    await each.wait_until_empty()

    def _keep_house(self) -> None:
        self._housekeeping = self._loop.call_later(HOUSEKEEPING, self._keep_house)
        self._closing = {each for each in self._closing if each.sessions}
        self._show_gauges()

    def _show_gauges(self) -> None:
        """Gauges that change by themselves, and refusals that were not logged."""
        metrics, now = self._commons.metrics, time.time()
        self._commons.publish()
        for client, account in self._commons.ledger.muted():
            if account.may_log(self._loop.time()):
                log.warning("refusals_not_logged", client=client, count=account.unlogged)
                account.unlogged = 0
        for name, each in self._open.items():
            metrics.listener_up(name).set(0 if name in self._problems else 1)
            if each.settings.tls is not None:
                ends = each.settings.tls.expires_at
                metrics.certificate_expiry_seconds(each.name).set(ends - now)
        fullest: dict[tuple[str, str], float] = dict.fromkeys(self._gauges, 0.0)
        for scope, namespace, ratio in self._commons.limits.usage(
            self._loop.time(), self._namespaces
        ):
            fullest[scope, namespace] = max(ratio, fullest.get((scope, namespace), 0.0))
        for labels, ratio in fullest.items():
            metrics.limit_usage_ratio(*labels).set(ratio)
        self._gauges = {labels for labels, ratio in fullest.items() if ratio > 0.0}


def _sessions(listeners: list[SmtpListener]) -> list[Guest]:
    return [session for each in listeners for session in each.sessions]


def _port_key(listener: Listener) -> PortKey:
    """What identifies a port across reloads: its number, or its listener if any number will do."""
    return listener.port or listener.name


def _compile(
    listener: Listener,
    relay: RelayDocument,
    directory: Directory,
    routing: Routing,
    certificates: CertificateStore,
) -> SmtpSettings:
    try:
        tls = None
        if listener.tls.mode is not TlsMode.NONE:
            tls = certificates.load(listener.tls.certificates)
        return compile_settings(
            listener, relay=relay, directory=directory, routing=routing, tls=tls
        )
    except CertificateError as error:
        raise ConfigError(RELAY_FILE, f"listener {listener.name} {error}") from None
    except ValueError as error:  # from ipaddress; the error quotes the value
        raise ConfigError(
            RELAY_FILE,
            f"listener {listener.name} has an invalid network in clientCIDRs: {error}",
        ) from None
