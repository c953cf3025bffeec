"""The ONLY importer of kopf: login, probe, and `run`, which runs the process.

kopf manages the process: start, signals, liveness, and the end of all tasks when one ends. It
watches nothing and writes nothing: the reflectors in cluster/ do the watching. They also report
what was deleted while the watch was down, survive any answer of the API server, and keep only the
fields that are read (docs/adr).
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
#: Seconds from SIGTERM until the process kills itself, within the pod's 30.
EXIT_TIMEOUT = 20.0


class _Forever:
    """Endless pauses between retries: an unavailable API server at startup must not end the
    process."""

    def __iter__(self) -> Iterator[float]:
        return itertools.chain((1.0, 2.0), itertools.repeat(5.0))


def framework_settings() -> kopf.OperatorSettings:
    """kopf's settings: deadlines everywhere, no writes, no scanning, no peering."""
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
    # Unused, since nothing is stored; the default names would collide with other operators'.
    settings.persistence.finalizer = f"{GROUP}/unused"
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=GROUP)
    settings.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(prefix=GROUP)
    return settings


def framework_registry(*, stuck: Callable[[], str | None]) -> kopf.OperatorRegistry:
    """All handlers. `stuck` names the task that no longer makes progress, if any."""
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry)
    def log_in(**kwargs: Any) -> kopf.ConnectionInfo | None:
        # Not through the client library, whose releases break it (kopf #1308).
        return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)

    @kopf.on.probe(registry=registry, id="loops")
    async def probe(**_: Any) -> str:
        standing = stuck()
        if standing is not None:
            # Anything but a PermanentError would be retried in 60 s while the probe hangs.
            raise kopf.PermanentError(f"{standing} makes no progress")
        return "alive"

    return registry


async def run(
    *,
    registry: kopf.OperatorRegistry,
    probe_host: str,
    probe_port: int,
    beside: Mapping[str, Coroutine[Any, Any, None]],
) -> None:
    """Run kopf and the named tasks `beside` it until SIGTERM or until one of them ends. A task that
    ends, ends the process, so that Kubernetes restarts it."""
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
