"""Wires the operator: settings, the API client, the store, workers and watches. No decisions."""

from __future__ import annotations

import asyncio
import os
import random
import sys
import time
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
import uvloop

from mailrelay_operator import __version__, handlers
from mailrelay_operator import log as log_lines
from mailrelay_operator.cluster.gateways import GatewayPods
from mailrelay_operator.cluster.kube import Kube, connect
from mailrelay_operator.cluster.reflector import Reflector
from mailrelay_operator.engine.acting import Actor
from mailrelay_operator.engine.announcing import Announcer
from mailrelay_operator.engine.authorities import Authorities
from mailrelay_operator.engine.backlog import Urgency
from mailrelay_operator.engine.contents import Contents
from mailrelay_operator.engine.memory import Memory
from mailrelay_operator.engine.metrics import OperatorMetrics
from mailrelay_operator.engine.pulse import Pulse
from mailrelay_operator.engine.reading import Reader
from mailrelay_operator.engine.reconcile import Clock, Reconciler
from mailrelay_operator.engine.resync import Reread, Resync
from mailrelay_operator.engine.scope import Scope
from mailrelay_operator.engine.serving import serve_metrics
from mailrelay_operator.engine.store import Store, trimmed
from mailrelay_operator.engine.verifiers import Verifiers
from mailrelay_operator.engine.watching import Watching, watched_kinds
from mailrelay_operator.engine.workers import Doorbell, Workers
from mailrelay_operator.plan.facts import Place
from mailrelay_operator.settings import Settings, SettingsUnusable, read_settings

log = structlog.get_logger()


def main() -> int:
    """Run the operator and return its exit code: 2 if the environment is invalid."""
    try:
        settings = read_settings(os.environ)
    except SettingsUnusable as error:
        print(error, file=sys.stderr)  # noqa: T201 - the log is not configured yet
        return 2
    log_lines.configure(settings.log_level, sys.stdout.buffer)
    uvloop.run(operate(settings))
    return 0


async def operate(settings: Settings) -> None:
    """Run until SIGTERM."""
    scope = Scope(namespaces=settings.watch_namespaces)
    log.info(
        "starting",
        version=__version__,
        gateway_image=settings.gateway_image,
        namespaces=list(scope.namespaces or ()),
    )
    cluster = await connect()
    gateways = GatewayPods()
    try:
        await _operate(settings, scope, cluster, gateways)
    finally:
        await gateways.close()
        await cluster.close()


async def _operate(settings: Settings, scope: Scope, cluster: Kube, gateways: GatewayPods) -> None:
    metrics = OperatorMetrics()
    memory, store, contents = Memory(), Store(), Contents(cluster, scope)
    doorbell = Doorbell(time.monotonic)
    watching = Watching(store=store, doorbell=doorbell, scope=scope)
    clock = Clock(monotonic=time.monotonic, now=lambda: datetime.now(UTC))
    place = Place(
        image=settings.gateway_image,
        image_pull_policy=settings.gateway_image_pull_policy,
        cluster_domain=settings.cluster_domain,
        operator_namespace=settings.namespace,
        image_pull_secrets=settings.gateway_image_pull_secrets,
        monitoring_namespaces=settings.monitoring_namespaces,
        user=settings.gateway_user,
        started=clock.now(),
        rollout=timedelta(seconds=settings.rollout_seconds),
        token_audiences=settings.token_audiences,
        allowed_egress=settings.allowed_egress,
        egress_proxy=settings.egress_proxy,
    )
    announcer = Announcer(cluster=cluster, now=clock.now)
    verifiers = Verifiers(lambda key: doorbell.add(key, urgency=Urgency.AWAITED))
    reconciler = Reconciler(
        store=store,
        contents=contents,
        reader=Reader(
            store=store,
            contents=contents,
            gateways=gateways,
            memory=memory,
            place=place,
            scope=scope,
        ),
        actor=Actor(cluster=cluster, contents=contents, store=store, announcer=announcer),
        verifiers=verifiers,
        memory=memory,
        clock=clock,
        ring=lambda key, urgency: doorbell.add(key, urgency=urgency),
    )
    rng = random.Random()  # noqa: S311 - jitter
    pulse = Pulse(time.monotonic)
    workers = Workers(
        doorbell=doorbell,
        reconcile=reconciler.reconcile,
        metrics=metrics,
        rng=rng,
        ready=watching.complete,
        beat=pulse.beat,
    )
    resync = Resync(
        store=store,
        doorbell=doorbell,
        memory=memory,
        metrics=metrics,
        interval=settings.resync_seconds,
        rng=rng,
        unix_time=time.time,
    )
    reread = Reread(cluster=cluster, doorbell=doorbell, contents=contents, metrics=metrics)
    reflectors = {
        f"watch {kind.plural} {namespace or ''}": Reflector(
            cluster=cluster,
            sink=watching,
            kind=kind,
            namespace=namespace,
            labels=labels,
            rng=rng,
            beat=pulse.beat,
            trim=trimmed,
        ).run()
        for kind, namespace, labels in watched_kinds(scope)
    }
    beside: dict[str, Coroutine[Any, Any, None]] = dict(reflectors)
    if settings.authorities_config_map:
        beside["authorities"] = Authorities(
            cluster=cluster,
            store=store,
            memory=memory,
            namespace=settings.namespace,
            name=settings.authorities_config_map,
            ready=lambda: store.is_complete,
        ).run()
    try:
        await handlers.run(
            registry=handlers.framework_registry(stuck=pulse.stuck),
            probe_host=settings.probe_host,
            probe_port=settings.probe_port,
            beside={
                "workers": workers.run(),
                "events": announcer.run(),
                "resync": resync.run(),
                "reread": reread.run(),
                "metrics": serve_metrics(metrics, port=settings.metrics_port),
                **beside,
            },
        )
    finally:
        verifiers.close()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except asyncio.CancelledError:
        sys.exit(0)
