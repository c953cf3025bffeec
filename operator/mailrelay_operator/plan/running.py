"""Compares the pods with the desired state: their digests, upstreams and queues. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from mailrelay_gateway.contract.documents import Sender
from mailrelay_gateway.contract.files import RELAY_FILE, share_name
from mailrelay_gateway.contract.moments import rfc3339
from mailrelay_gateway.contract.status import SenderFault, UpstreamState, UpstreamStatus
from mailrelay_operator.api.conditions import Verdict
from mailrelay_operator.api.names import ANNOTATION_DIGEST
from mailrelay_operator.api.reasons import Reason
from mailrelay_operator.plan.actions import Patch, key_of
from mailrelay_operator.plan.facts import ObjectKey, PodFacts, RelayFacts
from mailrelay_operator.plan.objects import Manifest, generation_of
from mailrelay_operator.plan.shares import Share
from mailrelay_operator.plan.verdicts import Trouble

#: When the digest was written to the pod. The kubelet syncs Secrets at once only when the pod
#: changes.
ANNOTATION_STAMPED = "mailrelay.dev/config-stamped"
#: Seconds between two annotations of a pod: a kubelet's sync takes half a second (measured).
STAMP_EVERY = timedelta(seconds=2)
#: Upstreams named in a message; the rest are counted.
MAX_NAMED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Figures for the status. `oldest` is RFC 3339, empty if nothing is queued."""

    replicas: int = 0
    ready: int = 0
    messages: int = 0
    oldest: str = ""


def known_senders(
    pods: Sequence[PodFacts], shares: Sequence[Share], versions: Mapping[str, Mapping[str, Sender]]
) -> frozenset[str]:
    """The UIDs of the senders whose entry is in the configuration of every ready pod, whether that
    has the newest share or an earlier one; empty if no pod is ready."""
    ready = [pod for pod in pods if pod.ready and not pod.terminating]
    if not ready:
        return frozenset()
    known: set[str] = set()
    for share in shares:
        running: list[Mapping[str, Sender]] = []
        for pod in ready:
            files = pod.status.files if pod.status is not None else {}
            running.append(versions.get(files.get(share_name(share.number), ""), {}))
        # Most pods run the newest: identity suffices, without comparing entries.
        older = [one for one in running if one is not share.senders]
        known.update(
            uid
            for uid, entry in share.senders.items()
            if all(one.get(uid) == entry for one in older)
        )
    return frozenset(known)


def sender_faults(pods: Sequence[PodFacts]) -> Mapping[str, SenderFault]:
    """By UID what was refused about a sender's domain or address; of several faults the one that
    began last."""
    found = (
        fault
        for pod in pods
        if pod.status is not None
        for upstream in pod.status.upstreams
        for fault in upstream.senders
    )
    return {fault.uid: fault for fault in sorted(found, key=_began)}


def _began(fault: SenderFault) -> tuple[str, str]:
    return fault.since, fault.message  # RFC 3339 in UTC sorts as text


def everybody_runs(pods: Sequence[PodFacts], digest: str) -> bool:
    """Whether every pod, ready or not, runs this configuration."""
    return all(pod.status is not None and pod.status.digest == digest for pod in pods)


def programmed_trouble(
    pods: Sequence[PodFacts], stateful_set: Manifest | None, *, relay_file: str, replicas: int
) -> Verdict | None:
    """Why not all replicas run the relay's file (by digest), or why that is unknown; None if they
    do. The senders' files are reported on the senders."""
    living = [pod for pod in pods if not pod.terminating]
    refusing = [pod for pod in living if not _runs(pod, relay_file) and _problem(pod)]
    if refusing:
        message = f"Pod {refusing[0].name}: {_problem(refusing[0])}"
        return Trouble(reason=Reason.CONFIGURATION_REFUSED, message=message).verdict()
    deaf = [pod for pod in living if pod.status is not None and pod.status.not_serving]
    if deaf and deaf[0].status is not None:
        message = f"Pod {deaf[0].name}: {' '.join(deaf[0].status.not_serving)}"
        return Trouble(reason=Reason.LISTENER_NOT_SERVING, message=message).verdict()
    if len(living) < replicas:
        message = f"Only {len(living)} of {replicas} pods exist."
        return Trouble(reason=Reason.REPLICAS_PENDING, message=message).verdict()
    unready = [pod for pod in living if not pod.ready]
    if unready:
        named = ", ".join(pod.name for pod in unready[:MAX_NAMED])
        message = f"{len(unready)} of {replicas} pods are not ready: {named}."
        return Trouble(reason=Reason.REPLICAS_PENDING, message=message).verdict()
    silent = [pod for pod in living if pod.status is None]
    if silent:
        message = f"Pod {silent[0].name}: {silent[0].trouble}"
        return Trouble(reason=Reason.GATEWAY_UNREACHABLE, message=message).verdict("Unknown")
    behind = [pod for pod in living if not _runs(pod, relay_file)]
    if behind:
        message = (
            f"{len(behind)} of {replicas} pods do not run configuration {relay_file[:12]} yet."
        )
        return Trouble(reason=Reason.CONFIGURATION_PENDING, message=message).verdict()
    if stateful_set is None or not _is_rolled_out(stateful_set):
        message = "The StatefulSet is still replacing pods."
        return Trouble(reason=Reason.REPLICAS_PENDING, message=message).verdict()
    return None


def stamps(facts: RelayFacts, relay: Manifest, digest: str) -> tuple[Patch, ...]:
    """Annotations for the pods that do not run the digest yet, repeated until they do: a change of
    the pod makes its kubelet sync the Secrets at once."""
    annotations = {ANNOTATION_DIGEST: digest, ANNOTATION_STAMPED: rfc3339(facts.now)}
    return tuple(
        Patch(
            owner=key_of(relay),
            target=ObjectKey(kind="Pod", namespace=facts.namespace, name=pod.name),
            uid=pod.uid,
            patch={"metadata": {"annotations": annotations}},
            optional=True,
        )
        for pod in facts.pods
        if not pod.terminating
        and pod.address
        and (pod.status is None or pod.status.digest != digest)
        and (
            pod.stamp != digest
            or pod.stamped_at is None
            or facts.now - pod.stamped_at >= STAMP_EVERY
        )
    )


def _runs(pod: PodFacts, relay_file: str) -> bool:
    return pod.status is not None and pod.status.files.get(RELAY_FILE) == relay_file


def _problem(pod: PodFacts) -> str:
    return pod.status.problem if pod.status is not None else ""


def upstream_verdict(pods: Sequence[PodFacts], *, suspended: bool) -> Verdict:
    """Whether mail can be sent, according to the pods; one pod's trouble with an upstream is
    enough."""
    if suspended:
        return Verdict(
            status="Unknown",
            reason=Reason.SUSPENDED,
            message="The relay is suspended by its spec: mail is accepted and stays queued.",
        )
    seen = [one for pod in pods if pod.status is not None for one in pod.status.upstreams]
    held = {one.name: one for one in seen if one.state is UpstreamState.HELD}
    unrouted = any(pod.status.queue.unrouted for pod in pods if pod.status is not None)
    if held:
        named = [_describe(one) for one in list(held.values())[:MAX_NAMED]]
        if len(held) > MAX_NAMED:
            named.append(f"and {len(held) - MAX_NAMED} more")
        if unrouted:
            named.append(Reason.NO_ROUTE.sentence)
        first = next(iter(held.values()))
        return Verdict(status="False", reason=_reason(first), message="; ".join(named))
    if unrouted:
        return Verdict(status="False", reason=Reason.NO_ROUTE, message=Reason.NO_ROUTE.sentence)
    up = sorted({one.name for one in seen if one.state is UpstreamState.UP})
    if up:
        named_up = ", ".join(up[:10])
        return Verdict(
            status="True", reason=Reason.REACHABLE, message=f"Mail was handed over to: {named_up}."
        )
    return Verdict(status="Unknown", reason=Reason.NOT_TRIED, message="No mail has been sent yet.")


def figures(pods: Sequence[PodFacts], stateful_set: Manifest | None) -> Figures:
    """The figures of the status, for all replicas together."""
    queues = [pod.status.queue for pod in pods if pod.status is not None]
    status = (stateful_set or {}).get("status") or {}
    return Figures(
        replicas=int(status.get("replicas", 0)),
        ready=sum(1 for pod in pods if pod.ready and not pod.terminating),
        messages=sum(queue.messages for queue in queues),
        oldest=min((queue.oldest for queue in queues if queue.oldest), default=""),
    )


def _describe(upstream: UpstreamStatus) -> str:
    since = f" since {upstream.since}" if upstream.since else ""
    return f"{upstream.name} is held{since}: {upstream.message or upstream.reason}"


def _reason(upstream: UpstreamStatus) -> Reason:
    """The gateway's reason, if the operator has it too."""
    words = {one.value: one for one in Reason if "UpstreamReachable" in one.conditions}
    return words.get(upstream.reason, Reason.UPSTREAM_HELD)


def _is_rolled_out(stateful_set: Manifest) -> bool:
    status = stateful_set.get("status") or {}
    replicas = stateful_set["spec"].get("replicas", 1)
    return bool(
        status.get("observedGeneration", 0) >= generation_of(stateful_set)
        and status.get("updatedReplicas", 0) >= replicas
        and status.get("currentRevision") == status.get("updateRevision")
    )
