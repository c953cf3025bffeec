"""The status of a MailRelay: its conditions, its figures, and when to reconcile again. Pure.

Each condition is a chain of small checks; the first that finds something is the verdict.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from mailrelay_gateway.contract.files import RELAY_FILE
from mailrelay_gateway.contract.moments import parse_rfc3339
from mailrelay_operator.api import names
from mailrelay_operator.api.conditions import Condition, Verdict, find_condition
from mailrelay_operator.api.mailrelay import (
    ListenerStatus,
    MailRelayStatus,
    QueueStatus,
    StatusAddress,
)
from mailrelay_operator.api.reasons import Reason
from mailrelay_operator.plan.actions import Announce, ApplyStatus, key_of
from mailrelay_operator.plan.configuration import Configuration
from mailrelay_operator.plan.endpoint import Endpoint
from mailrelay_operator.plan.facts import Absence, RelayFacts
from mailrelay_operator.plan.objects import generation_of
from mailrelay_operator.plan.running import figures, programmed_trouble, upstream_verdict
from mailrelay_operator.plan.status import (
    judged,
    ready,
    regarding,
    relay_status_of,
    transitions,
    written,
)
from mailrelay_operator.plan.succession import OVERLAP, Replaced
from mailrelay_operator.plan.survey import InForce, Survey
from mailrelay_operator.plan.token_logins import keeps_refresh_tokens
from mailrelay_operator.plan.verdicts import Complaint, Trouble, complaint, joined
from mailrelay_operator.plan.volumes import size_trouble, stranded_trouble

#: How often pods are asked for their queues and upstreams in the steady state.
LOOK_EVERY = timedelta(seconds=60)
#: How long a new configuration may take to reach all gateways before Programmed reports it.
SETTLES_IN = timedelta(seconds=5)
#: While a change is in progress: from the first interval, growing with the wait, to the second.
LOOK_SOON = timedelta(seconds=1)
LOOK_LATER = timedelta(seconds=30)
#: Reasons of Programmed for which the pods have to be polled.
_PASSING = frozenset(
    {
        Reason.CONFIGURATION_PENDING,
        Reason.CONFIGURATION_REFUSED,
        Reason.GATEWAY_UNREACHABLE,
        Reason.REPLICAS_PENDING,
    }
)
#: Load balancer entries shown, each with name and address; the status allows 16.
MAX_ADDRESSES = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class RelaySituation:
    """The input of a relay's conditions."""

    found: Survey
    configuration: Configuration | None
    endpoint: Endpoint | None
    replicas: int

    @property
    def facts(self) -> RelayFacts:
        """The facts that were surveyed."""
        return self.found.facts


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayReport:
    """The status to write, when to reconcile again, whether it has new queue figures, and the
    messages for a terminal."""

    actions: tuple[ApplyStatus | Announce, ...]
    look_again_at: datetime
    wrote_numbers: bool
    problems: tuple[Complaint, ...]


Obstacle = Callable[[RelaySituation], Iterator[Trouble]]


def report(at: RelaySituation) -> RelayReport:
    """The status, if it changed, and Events for notable changes."""
    old = relay_status_of(at.found.relay)
    obstacles = tuple(trouble for check in OBSTACLES for trouble in check(at))
    verdicts = _verdicts(at, obstacles, old.conditions)
    generation = generation_of(at.found.relay)
    conditions = judged(
        "MailRelay", old.conditions, verdicts, generation=generation, now=at.facts.now
    )
    status = _status(at, old, conditions)
    writes = written(at.found.relay, status, old)
    in_transit = "Programmed" not in verdicts or not _settled(at)
    return RelayReport(
        actions=(
            *writes,
            *transitions(at.found.relay, old.conditions, conditions),
            *_replaced(at),
        ),
        look_again_at=_look_again_at(at, status, in_transit=in_transit),
        wrote_numbers=status.queue != old.queue and bool(writes),
        problems=tuple(_problems(at.found, obstacles)),
    )


# --- what keeps the newest spec from being programmed, independently of the pods


def _objects_are_ours(at: RelaySituation) -> Iterator[Trouble]:
    yield from at.found.obstructed


def _something_is_in_force(at: RelaySituation) -> Iterator[Trouble]:
    if at.found.in_force is None:
        why = at.found.refused or joined(at.found.unresolved)
        yield Trouble(
            reason=Reason.CONFIGURATION_PENDING,
            message=f"Not running yet: {why.message if why else 'the spec was never accepted.'}",
        )


def _configuration_fits(at: RelaySituation) -> Iterator[Trouble]:
    lacking = at.found.in_force is not None and at.configuration is None
    if lacking and not at.found.obstructed:
        yield Trouble(
            reason=Reason.CONFIGURATION_TOO_BIG, message=Reason.CONFIGURATION_TOO_BIG.sentence
        )


def _newest_is_in_force(at: RelaySituation) -> Iterator[Trouble]:
    in_force = at.found.in_force
    if in_force is not None and at.found.refused is None and not in_force.is_newest:
        yield Trouble(
            reason=Reason.CONFIGURATION_PENDING,
            message=f"Generation {in_force.generation} stays in effect until all references"
            " resolve.",
        )


def _volumes_have_the_size(at: RelaySituation) -> Iterator[Trouble]:
    in_force = at.found.in_force
    if in_force is None or in_force.spec.queue.kind != "storage" or at.facts.place.standalone:
        return
    size = in_force.spec.queue.volume.size
    found = size_trouble(at.facts, at.found.stateful_set, size) if in_force.is_newest else None
    if found is not None:
        yield found


def _replicas_are_not_fewer(at: RelaySituation) -> Iterator[Trouble]:
    in_force = at.found.in_force
    if in_force is None or at.facts.place.standalone:
        return
    wanted, running = in_force.spec.replicas, at.found.running
    if wanted < running:
        yield Trouble(
            reason=Reason.SCALE_DOWN_BLOCKED,
            message=f"spec.replicas is {wanted}, but {running} are running. The last one's queue"
            f" may hold"
            f" mail, so none is removed: set replicas to {running}.",
        )


def _objects_could_be_written(at: RelaySituation) -> Iterator[Trouble]:
    for key, failure in sorted(at.facts.failures.items()):
        # A claim that cannot grow has a reason of its own.
        if key.kind != "PersistentVolumeClaim" or at.facts.objects.get(key) in list(Absence):
            yield Trouble(reason=Reason.APPLY_FAILED, message=failure.message)


def _no_queue_is_left(at: RelaySituation) -> Iterator[Trouble]:
    in_force = at.found.in_force
    if in_force is None or in_force.spec.queue.kind != "storage" or at.facts.place.standalone:
        return
    found = stranded_trouble(at.facts, at.replicas)
    if found is not None:
        yield found


OBSTACLES: Sequence[Obstacle] = (
    _objects_are_ours,  # make sure that no foreign object has a required name
    _something_is_in_force,  # make sure that a spec is in effect
    _configuration_fits,  # make sure that it fits into a Secret
    _newest_is_in_force,  # make sure that the newest spec is the one in effect
    _volumes_have_the_size,  # make sure that volumes have the requested size
    _objects_could_be_written,  # make sure that the API server's errors are quoted
    _replicas_are_not_fewer,  # make sure that no queue is left behind
    _no_queue_is_left,  # make sure that an earlier relay's mail is reported
)


# --- conditions


def _verdicts(
    at: RelaySituation, obstacles: tuple[Trouble, ...], old: Sequence[Condition]
) -> dict[str, Verdict]:
    found, in_force = at.found, at.found.in_force
    verdicts = {"Accepted": _accepted(found), "ResolvedRefs": _resolved(found)}
    verdicts |= _programmed(at, obstacles, old)
    if in_force is not None:
        verdicts["Durable"] = _durable(in_force)
        verdicts["UpstreamReachable"] = upstream_verdict(
            at.facts.pods, suspended=in_force.spec.suspend
        )
    some_ready = any(pod.ready and not pod.terminating for pod in at.facts.pods)
    reason = Reason.READY if some_ready else Reason.NO_READY_REPLICA
    otherwise = Verdict(
        status="True" if some_ready else "False", reason=reason, message=reason.sentence
    )
    needed = [one for one in ("Accepted", "ResolvedRefs", "Programmed") if one in verdicts]
    verdicts["Ready"] = ready(verdicts, needed, otherwise=otherwise)
    return verdicts


def _accepted(found: Survey) -> Verdict:
    if found.refused is not None:
        return found.refused.verdict()
    return Verdict(status="True", reason=Reason.ACCEPTED, message=Reason.ACCEPTED.sentence)


def _resolved(found: Survey) -> Verdict:
    unresolved = joined(found.unresolved)
    if unresolved is not None:
        return unresolved.verdict()
    if found.refused is not None and found.in_force is None:
        return Verdict(status="Unknown", reason=Reason.PENDING, message="The spec is not accepted.")
    return Verdict(
        status="True", reason=Reason.RESOLVED_REFS, message=Reason.RESOLVED_REFS.sentence
    )


def _durable(in_force: InForce) -> Verdict:
    ephemeral = in_force.spec.queue.kind == "ephemeral"
    reason = Reason.SPOOL_EPHEMERAL if ephemeral else Reason.SPOOL_PERSISTENT
    message = reason.sentence
    if ephemeral and keeps_refresh_tokens(in_force.spec):
        message += " A refresh token that the provider has replaced is lost with the pod, too."
    return Verdict(status="False" if ephemeral else "True", reason=reason, message=message)


def _programmed(
    at: RelaySituation, obstacles: tuple[Trouble, ...], old: Sequence[Condition]
) -> dict[str, Verdict]:
    """The verdict of Programmed; none, to leave it unchanged, for the seconds that a changed login
    or certificate takes to reach the gateways."""
    obstacle = joined(obstacles)
    if obstacle is not None:
        return {"Programmed": obstacle.verdict()}
    if at.configuration is None:
        reason = Reason.CONFIGURATION_PENDING
        return {"Programmed": Verdict(status="False", reason=reason, message=reason.sentence)}
    pending = programmed_trouble(
        at.facts.pods,
        at.found.stateful_set,
        relay_file=at.configuration.file_digests[RELAY_FILE],
        replicas=at.replicas,
    )
    if pending is None:
        message = f"All {at.replicas} replicas run this configuration."
        return {"Programmed": Verdict(status="True", reason=Reason.PROGRAMMED, message=message)}
    was = find_condition(old, "Programmed")
    since = at.facts.settling_since
    fresh = since is None or at.facts.now - since < SETTLES_IN
    on_its_way = pending.reason is Reason.CONFIGURATION_PENDING and fresh
    if on_its_way and was is not None and was.status != "False":
        if was.status == "True" and was.observed_generation == generation_of(at.found.relay):
            return {}
        # A new spec: the object must not appear ready until it runs.
        return {"Programmed": replace(pending, status="Unknown")}
    return {"Programmed": pending}


# --- numbers


def _status(
    at: RelaySituation, old: MailRelayStatus, conditions: tuple[Condition, ...]
) -> MailRelayStatus:
    found, facts = at.found, at.facts
    seen = figures(facts.pods, found.stateful_set)
    queue = QueueStatus(messages=seen.messages, oldest=seen.oldest or None)
    attached = sum(1 for one in found.candidates if one.admission.entry is not None)
    spec = found.in_force.spec if found.in_force is not None else None
    return MailRelayStatus(
        observed_generation=generation_of(found.relay),
        generation_in_force=found.in_force.generation if found.in_force is not None else None,
        conditions=conditions,
        ready=f"{seen.ready}/{max(spec.replicas if spec is not None else 0, found.running)}",
        endpoint=at.endpoint.shown if at.endpoint is not None else None,
        addresses=_addresses(facts, at.endpoint),
        listeners=tuple(
            ListenerStatus(
                name=listener.name,
                attached_senders=attached if listener.authentication.mode == "Required" else 0,
            )
            for listener in (spec.listeners if spec is not None else ())
        ),
        attached_senders=attached,
        replicas=seen.replicas,
        ready_replicas=seen.ready,
        selector=names.scale_selector(facts.name),
        queue=queue if facts.numbers_due else old.queue,
        config_digest=_shown_digest(at),
    )


def _shown_digest(at: RelaySituation) -> str:
    """The digest of the relay's own file: the overall digest would change with every sender."""
    return at.configuration.file_digests[RELAY_FILE] if at.configuration is not None else ""


def _addresses(facts: RelayFacts, endpoint: Endpoint | None) -> tuple[StatusAddress, ...]:
    """The name for clients in the cluster, then the load balancer's addresses, names first."""
    found = [StatusAddress(value=endpoint.host)] if endpoint is not None else []
    service = facts.find("Service", facts.namespace, names.service_name(facts.name))
    if not isinstance(service, Absence) and found:
        balancer = (service.get("status") or {}).get("loadBalancer") or {}
        for given in (balancer.get("ingress") or ())[:MAX_ADDRESSES]:
            if given.get("hostname"):
                found.append(StatusAddress(value=str(given["hostname"])))
            if given.get("ip"):
                found.append(StatusAddress(type="IPAddress", value=str(given["ip"])))
    return tuple(dict.fromkeys(found))


def _settled(at: RelaySituation) -> bool:
    """Whether every pod that is polled runs the whole configuration."""
    return at.configuration is None or all(
        pod.status is None or pod.status.digest == at.configuration.digest
        for pod in at.facts.pods
        if not pod.terminating
    )


def _look_again_at(at: RelaySituation, status: MailRelayStatus, *, in_transit: bool) -> datetime:
    """Soon while a change is in progress, at intervals that grow from the newest change on;
    otherwise once a minute for the figures."""
    facts = at.facts
    programmed = find_condition(status.conditions, "Programmed")
    waiting = programmed is not None and programmed.reason in _PASSING and status.config_digest
    if not waiting and not in_transit:
        return facts.now + LOOK_EVERY
    digest = at.configuration.digest if at.configuration is not None else ""
    since = (facts.newest_since if digest == facts.newest_digest else None) or facts.now
    if waiting and programmed is not None:
        since = max(since, parse_rfc3339(programmed.last_transition_time) or facts.now)
    return facts.now + max(LOOK_SOON, min((facts.now - since) / 4, LOOK_LATER))


def _replaced(at: RelaySituation) -> Iterator[Announce]:
    """An Event when another CA issues certificates: a warning if clients could not learn it in
    time."""
    replaced = at.found.succession.replaced if at.found.succession is not None else None
    if replaced is None or at.found.in_force is None:
        return
    yield Announce(
        owner=key_of(at.found.relay),
        regarding=regarding(at.found.relay),
        warning=replaced is not Replaced.AFTER_OVERLAP,
        reason=Reason.AUTHORITY_REPLACED,
        note=_WHY_REPLACED[replaced],
    )


_WHY_REPLACED = {
    Replaced.AFTER_OVERLAP: f"A new CA issues the certificates from now on. It has been in every"
    f" ca.crt for {OVERLAP.days} days; the previous one stays there until it expires.",
    Replaced.EXPIRED: "The relay's CA is not valid at this time, so another one issues the"
    f" certificates without having been in every ca.crt for {OVERLAP.days} days: clients that"
    " loaded ca.crt before must load it again.",
    Replaced.LOST: "The Secret of the relay's CA was deleted, so a new CA issues the certificates"
    " and the old one is no longer trusted: clients must load ca.crt again.",
}


def _problems(found: Survey, obstacles: Sequence[Trouble]) -> Iterator[Complaint]:
    """For a terminal: everything that has no effect."""
    for trouble in (found.refused, *found.unresolved, *obstacles):
        if trouble is not None and trouble.reason is not Reason.CONFIGURATION_PENDING:
            yield complaint(found.relay, trouble)
