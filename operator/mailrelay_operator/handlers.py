"""The ONLY importer of kopf: login, probe, and events that put keys on the backlog. And `run`,
the life of the process.

kopf watches and owns the process; it writes nothing: no finalizers, no annotations, no Events, no
progress. Handlers return None, look at no `type` (the first listing has none) and decide nothing
but whom to look at.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import kopf

from mailrelay_operator.api.metadata import GROUP, VERSION
from mailrelay_operator.engine.backlog import Key
from mailrelay_operator.engine.changes import Changes
from mailrelay_operator.engine.memory import Memory
from mailrelay_operator.engine.reading import Scope, relay_of_sender
from mailrelay_operator.engine.resync import relay_key
from mailrelay_operator.engine.workers import Doorbell
from mailrelay_operator.plan.objects import Manifest, name_of, namespace_of

#: Seconds. kopf leaves most of these unset, and a half-open connection then stalls a watch for
#: ever. The first is a whole number: the API server answers 400 to a timeoutSeconds of 300.0.
WATCH_SERVER_TIMEOUT = 300
WATCH_CLIENT_TIMEOUT = 330
CONNECT_TIMEOUT = 10.0
REQUEST_TIMEOUT = 30.0
#: Seconds from SIGTERM to SIGKILL by ourselves, within the pod's own 30.
EXIT_TIMEOUT = 20.0


def framework_settings() -> kopf.OperatorSettings:
    """kopf's settings, as PITFALLS taught: deadlines everywhere, nothing written, no scanning,
    no peering."""
    settings = kopf.OperatorSettings()
    settings.watching.server_timeout = WATCH_SERVER_TIMEOUT
    settings.watching.client_timeout = WATCH_CLIENT_TIMEOUT
    settings.watching.connect_timeout = CONNECT_TIMEOUT
    settings.networking.request_timeout = REQUEST_TIMEOUT
    settings.networking.connect_timeout = CONNECT_TIMEOUT
    settings.posting.enabled = False
    settings.posting.loggers = False
    # Namespaces and CRDs are not watched for changes: their list is ours, and the chart brings the
    # CRDs.
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


def framework_registry(
    *, doorbell: Doorbell, memory: Memory, scope: Scope, is_stale: Callable[[], bool]
) -> kopf.OperatorRegistry:
    """All handlers. `is_stale` says that the process should be replaced."""
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry)
    def log_in(**kwargs: Any) -> kopf.ConnectionInfo | None:
        # Not by the client library, whose versions break it (kopf #1308).
        return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)

    @kopf.on.probe(registry=registry, id="resync")
    async def probe(**_: Any) -> str:
        if is_stale():
            # Anything but a PermanentError would be retried in 60 s while the probe hangs.
            raise kopf.PermanentError("the last resync is too long ago")
        return "fresh"

    def watch(plural: str, keys_of: Callable[[Manifest], list[Key]]) -> None:
        changes = Changes()

        @kopf.on.event(GROUP, VERSION, plural, registry=registry, id=plural)
        async def on_event(event: Mapping[str, Any], **_: Any) -> None:
            _ring(doorbell, changes, event, keys_of)

    def relays(found: Manifest) -> list[Key]:
        return [relay_key(namespace_of(found), name_of(found))]

    def senders(found: Manifest) -> list[Key]:
        return [relay_key(*relay_of_sender(found))]

    def domains(found: Manifest) -> list[Key]:
        return [Key(kind="MailDomain", namespace=namespace_of(found), name=name_of(found))]

    watch("mailrelays", relays)
    watch("mailsenders", senders)
    watch("maildomains", domains)
    if scope.namespaces is None:
        changes = Changes()

        @kopf.on.event("", "v1", "namespaces", registry=registry, id="namespaces")
        async def on_namespace(event: Mapping[str, Any], **_: Any) -> None:
            _ring(
                doorbell,
                changes,
                event,
                lambda found: list(memory.relays_with_senders_in(name_of(found))),
            )

    return registry


def _ring(
    doorbell: Doorbell,
    changes: Changes,
    event: Mapping[str, Any],
    keys_of: Callable[[Manifest], list[Key]],
) -> None:
    found = dict(event["object"])
    if changes.is_news(found, deleted=event.get("type") == "DELETED"):
        for key in keys_of(found):
            doorbell.add(key)


async def run(
    *,
    registry: kopf.OperatorRegistry,
    scope: Scope,
    probe_host: str,
    probe_port: int,
    beside: Mapping[str, Coroutine[Any, Any, None]],
) -> None:
    """Run kopf and the tasks `beside` it, by name, until SIGTERM or until one of them ends: none
    of them should, so that a dead worker ends the process and Kubernetes starts it again."""
    before = asyncio.all_tasks()
    namespaces = scope.namespaces or ()
    tasks = list(
        await kopf.spawn_tasks(
            registry=registry,
            settings=framework_settings(),
            standalone=True,
            clusterwide=not namespaces,
            namespaces=namespaces,
            liveness_endpoint=f"http://{probe_host}:{probe_port}/healthz",
        )
    )
    tasks += [asyncio.create_task(work, name=name) for name, work in beside.items()]
    await kopf.run_tasks(tasks, ignored=before)
