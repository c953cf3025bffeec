"""The ONLY importer of kopf: login, probe, and `run`, the life of the process.

kopf owns the process: start, signals, liveness, and that the death of one task is the death of all.
It watches nothing and writes nothing: what is watched is kept by reflectors of our own, which tell
what was deleted while nobody watched, go on through whatever the API server answers, and keep of
each object only what is read (docs/adr).
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Coroutine, Iterator, Mapping
from typing import Any

import kopf

from mailrelay_operator.api.metadata import GROUP

#: Seconds. kopf leaves most of these unset.
CONNECT_TIMEOUT = 10.0
REQUEST_TIMEOUT = 30.0
#: Seconds from SIGTERM to SIGKILL by ourselves, within the pod's own 30.
EXIT_TIMEOUT = 20.0


class _Forever:
    """Pauses between tries without end: an API server that is away when the process starts is no
    reason to end it."""

    def __iter__(self) -> Iterator[float]:
        return itertools.chain((1.0, 2.0), itertools.repeat(5.0))


def framework_settings() -> kopf.OperatorSettings:
    """kopf's settings, as PITFALLS taught: deadlines everywhere, nothing written, no scanning,
    no peering."""
    settings = kopf.OperatorSettings()
    settings.networking.request_timeout = REQUEST_TIMEOUT
    settings.networking.connect_timeout = CONNECT_TIMEOUT
    settings.networking.error_backoffs = _Forever()
    settings.posting.enabled = False
    settings.posting.loggers = False
    settings.scanning.disabled = True
    settings.peering.standalone = True
    settings.queueing.exit_timeout = 0.5
    settings.process.ultimate_exiting_timeout = EXIT_TIMEOUT
    # Never used, since nothing is ever stored; the default names would collide with other
    # operators'.
    settings.persistence.finalizer = f"{GROUP}/unused"
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=GROUP)
    settings.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(prefix=GROUP)
    return settings


def framework_registry(*, stuck: Callable[[], str | None]) -> kopf.OperatorRegistry:
    """All handlers. `stuck` names what stands still, so that the process should be replaced."""
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry)
    def log_in(**kwargs: Any) -> kopf.ConnectionInfo | None:
        # Not by the client library, whose versions break it (kopf #1308).
        return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)

    @kopf.on.probe(registry=registry, id="loops")
    async def probe(**_: Any) -> str:
        standing = stuck()
        if standing is not None:
            # Anything but a PermanentError would be retried in 60 s while the probe hangs.
            raise kopf.PermanentError(f"{standing} stands still")
        return "alive"

    return registry


async def run(
    *,
    registry: kopf.OperatorRegistry,
    probe_host: str,
    probe_port: int,
    beside: Mapping[str, Coroutine[Any, Any, None]],
) -> None:
    """Run kopf and the tasks `beside` it, by name, until SIGTERM or until one of them ends: none
    of them should, so that a dead worker ends the process and Kubernetes starts it again."""
    before = asyncio.all_tasks()
    tasks = list(
        await kopf.spawn_tasks(
            registry=registry,
            settings=framework_settings(),
            standalone=True,
            clusterwide=True,
            liveness_endpoint=f"http://{probe_host}:{probe_port}/healthz",
        )
    )
    tasks += [asyncio.create_task(work, name=name) for name, work in beside.items()]
    await kopf.run_tasks(tasks, ignored=before)
