"""Wires the operator: settings, the one client, memory, workers, watches. Decides nothing."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import sys
import time
from datetime import UTC, datetime
from typing import Any

import orjson
import structlog
import uvloop

from mailrelay_operator import __version__, handlers
from mailrelay_operator.cluster.gateways import GatewayPods
from mailrelay_operator.cluster.kube import Kube, connect
from mailrelay_operator.cluster.port import Unavailable
from mailrelay_operator.engine.backlog import Backlog
from mailrelay_operator.engine.memory import Memory
from mailrelay_operator.engine.metrics import OperatorMetrics
from mailrelay_operator.engine.reading import Reader, Scope
from mailrelay_operator.engine.reconcile import Clock, Reconciler
from mailrelay_operator.engine.resync import Reread, Resync
from mailrelay_operator.engine.serving import serve_metrics
from mailrelay_operator.engine.startup import wait_for_kinds
from mailrelay_operator.engine.workers import Doorbell, Workers
from mailrelay_operator.plan.facts import Place
from mailrelay_operator.settings import Settings, SettingsUnusable, read_settings

log = structlog.get_logger()


def main() -> int:
    """The exit code of a whole life: 2 when the environment cannot be used, 1 when the cluster
    cannot."""
    try:
        settings = read_settings(os.environ)
    except SettingsUnusable as error:
        print(error, file=sys.stderr)  # noqa: T201 - the log is not configured yet
        return 2
    configure_log(settings.log_level)
    try:
        uvloop.run(operate(settings))
    except Unavailable as error:
        log.error("cannot-start", detail=str(error))
        return 1
    return 0


async def operate(settings: Settings) -> None:
    """Run until SIGTERM."""
    scope = Scope(namespaces=settings.watch_namespaces)
    log.info(
        "starting",
        version=__version__,
        gateway_image=settings.gateway_image,
        namespaces=list(scope.namespaces) if scope.namespaces else "all",
    )
    cluster = await connect()
    gateways = GatewayPods()
    try:
        await wait_for_kinds(cluster)
        await _operate(settings, scope, cluster, gateways)
    finally:
        await gateways.close()
        await cluster.close()


async def _operate(settings: Settings, scope: Scope, cluster: Kube, gateways: GatewayPods) -> None:
    metrics = OperatorMetrics()
    memory = Memory()
    doorbell = Doorbell(Backlog(), time.monotonic)
    place = Place(
        image=settings.gateway_image,
        image_pull_policy=settings.gateway_image_pull_policy,
        cluster_domain=settings.cluster_domain,
        operator_namespace=settings.namespace,
        image_pull_secrets=settings.gateway_image_pull_secrets,
        monitoring_namespaces=settings.monitoring_namespaces,
        user=settings.gateway_user,
    )
    reconciler = Reconciler(
        cluster=cluster,
        reader=Reader(cluster=cluster, gateways=gateways, place=place, scope=scope),
        memory=memory,
        clock=Clock(monotonic=time.monotonic, now=lambda: datetime.now(UTC)),
    )
    rng = random.Random()  # noqa: S311 - jitter
    workers = Workers(doorbell=doorbell, reconcile=reconciler.reconcile, metrics=metrics, rng=rng)
    resync = Resync(
        cluster=cluster,
        scope=scope,
        doorbell=doorbell,
        memory=memory,
        metrics=metrics,
        interval=settings.resync_seconds,
        rng=rng,
        unix_time=time.time,
    )
    reread = Reread(cluster=cluster, doorbell=doorbell, memory=memory, metrics=metrics)
    registry = handlers.framework_registry(
        doorbell=doorbell, memory=memory, scope=scope, is_stale=resync.is_stale
    )
    await handlers.run(
        registry=registry,
        scope=scope,
        probe_host=settings.probe_host,
        probe_port=settings.probe_port,
        beside={
            "workers": workers.run(),
            "resync": resync.run(),
            "reread": reread.run(),
            "metrics": serve_metrics(metrics, port=settings.metrics_port),
        },
    )


def configure_log(level: str) -> None:
    """JSON lines on stdout, ours and the libraries'; kopf speaks of warnings only."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(
                    serializer=lambda value, **_: orjson.dumps(value, default=str).decode()
                ),
            ],
        )
    )
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for library in ("kopf", "aiohttp", "aiohttp_retry", "asyncio", "kubernetes"):
        logging.getLogger(library).setLevel(logging.WARNING)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except asyncio.CancelledError:
        sys.exit(0)
