"""PURE: what is said of a MailRelay: its conditions, its numbers, and when to look at it again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from mailrelay_operator.api import names
from mailrelay_operator.api.conditions import Verdict, find_condition
from mailrelay_operator.api.mailrelay import (
    ListenerStatus,
    MailRelayStatus,
    QueueStatus,
    StatusAddress,
)
from mailrelay_operator.api.reasons import Reason
from mailrelay_operator.plan.configuration import Configuration
from mailrelay_operator.plan.endpoint import Endpoint
from mailrelay_operator.plan.facts import Absence, Plan, RelayFacts
from mailrelay_operator.plan.objects import generation_of, name_of, parse_timestamp
from mailrelay_operator.plan.running import (
    Figures,
    figures,
    programmed_trouble,
    upstream_verdict,
)
from mailrelay_operator.plan.senders import SenderPlan
from mailrelay_operator.plan.status import (
    judged,
    ready,
    relay_status_of,
    status_object,
    transitions,
)
from mailrelay_operator.plan.survey import Survey
from mailrelay_operator.plan.verdicts import Trouble, joined

#: While all is well: how often pods are asked for their queues and upstreams.
LOOK_EVERY = timedelta(seconds=60)
#: How long a new configuration may take to all gateways before it is said that it is not there.
SETTLES_IN = timedelta(seconds=5)
#: While something is on its way: from the first figure, growing with the wait, to the second.
LOOK_SOON = timedelta(seconds=1)
LOOK_LATER = timedelta(seconds=30)
#: Of a load balancer that many are shown, each with name and address; the status takes 16.
MAX_ADDRESSES = 7


def obstacles(
    facts: RelayFacts, found: Survey, configuration: Configuration | None
) -> Iterator[Trouble]:
    """What keeps the newest spec from being programmed, whatever the pods do; the first one is the
    reason."""
    yield from found.foreign
    in_force = found.in_force
    if in_force is None:
        why = found.refused or joined(found.unresolved)
        yield Trouble(
            reason=Reason.CONFIGURATION_PENDING,
            message=f"Nothing runs yet: {why.message if why else 'the spec was never accepted.'}",
        )
        return
    if configuration is None and not found.foreign:
        yield Trouble(
            reason=Reason.CONFIGURATION_TOO_BIG, message=Reason.CONFIGURATION_TOO_BIG.sentence
        )
    if found.refused is None and not in_force.is_newest:
        yield Trouble(
            reason=Reason.CONFIGURATION_PENDING,
            message=f"Generation {in_force.generation} runs until everything is found that the spec"
            " refers to.",
        )
    if in_force.spec.replicas < found.running and not facts.place.standalone:
        yield Trouble(
            reason=Reason.SCALE_DOWN_BLOCKED,
            message=f"spec.replicas is {in_force.spec.replicas}, and {found.running} run. Mail may"
            f" lie in the last one's queue, so none is removed: set replicas to {found.running}.",
        )


def verdicts_of(
    facts: RelayFacts,
    found: Survey,
    configuration: Configuration | None,
    troubles: Sequence[Trouble],
    replicas: int,
) -> dict[str, Verdict]:
    """The verdict of each condition."""
    verdicts: dict[str, Verdict] = {}
    if found.refused is not None:
        verdicts["Accepted"] = found.refused.verdict()
    else:
        verdicts["Accepted"] = Verdict(
            status="True", reason=Reason.ACCEPTED, message=Reason.ACCEPTED.sentence
        )
    unresolved = joined(found.unresolved)
    if unresolved is not None:
        verdicts["ResolvedRefs"] = unresolved.verdict()
    elif found.refused is not None and found.in_force is None:
        verdicts["ResolvedRefs"] = Verdict(
            status="Unknown", reason=Reason.PENDING, message="The spec is not accepted."
        )
    else:
        verdicts["ResolvedRefs"] = Verdict(
            status="True", reason=Reason.RESOLVED_REFS, message=Reason.RESOLVED_REFS.sentence
        )
    verdicts |= _running_verdicts(facts, found, configuration, troubles, replicas)
    if found.in_force is not None:
        ephemeral = found.in_force.spec.queue.kind == "ephemeral"
        reason = Reason.SPOOL_EPHEMERAL if ephemeral else Reason.SPOOL_PERSISTENT
        verdicts["Durable"] = Verdict(
            status="False" if ephemeral else "True", reason=reason, message=reason.sentence
        )
        verdicts["UpstreamReachable"] = upstream_verdict(
            facts.pods, suspended=found.in_force.spec.suspend
        )
    some_ready = any(pod.ready and not pod.terminating for pod in facts.pods)
    reason = Reason.READY if some_ready else Reason.NO_READY_REPLICA
    otherwise = Verdict(
        status="True" if some_ready else "False", reason=reason, message=reason.sentence
    )
    needed = [one for one in ("Accepted", "ResolvedRefs", "Programmed") if one in verdicts]
    verdicts["Ready"] = ready(verdicts, needed, otherwise=otherwise)
    return verdicts


def _running_verdicts(
    facts: RelayFacts,
    found: Survey,
    configuration: Configuration | None,
    troubles: Sequence[Trouble],
    replicas: int,
) -> dict[str, Verdict]:
    """The verdict of Programmed, or none: for the seconds that a new configuration takes to the
    gateways, what is said of the one before stays (its observedGeneration tells), so that no
    condition flaps for each new MailSender."""
    obstacle = joined(tuple(troubles))
    if obstacle is not None:
        return {"Programmed": obstacle.verdict()}
    if configuration is None:
        return {"Programmed": _not_yet()}
    pending = programmed_trouble(
        facts.pods, found.stateful_set, digest=configuration.digest, replicas=replicas
    )
    if pending is None:
        message = f"All {replicas} replicas run this configuration."
        return {"Programmed": Verdict(status="True", reason=Reason.PROGRAMMED, message=message)}
    was = find_condition(relay_status_of(found.relay).conditions, "Programmed")
    fresh = facts.settling_since is None or facts.now - facts.settling_since < SETTLES_IN
    on_its_way = pending.reason is Reason.CONFIGURATION_PENDING and fresh
    if on_its_way and was is not None and was.status != "False":
        if was.status == "True" and was.observed_generation == generation_of(found.relay):
            return {}
        # Of a new spec: until it runs, nobody who waits for it may take the object for ready.
        return {"Programmed": replace(pending, status="Unknown")}
    return {"Programmed": pending}


def _not_yet() -> Verdict:
    return Verdict(
        status="False",
        reason=Reason.CONFIGURATION_PENDING,
        message=Reason.CONFIGURATION_PENDING.sentence,
    )


def relay_status(
    facts: RelayFacts,
    found: Survey,
    configuration: Configuration | None,
    endpoint: Endpoint | None,
    verdicts: Mapping[str, Verdict],
) -> tuple[MailRelayStatus, bool]:
    """The status, and whether it has new queue numbers: those are written at most once a minute."""
    old = relay_status_of(found.relay)
    seen: Figures = figures(facts.pods, found.stateful_set)
    queue = QueueStatus(messages=seen.messages, oldest=seen.oldest or None)
    if not facts.numbers_due:
        queue = old.queue
    attached = sum(1 for one in found.senders if one.entry is not None)
    generation = generation_of(found.relay)
    spec = found.in_force.spec if found.in_force is not None else None
    shown = configuration.digest if configuration is not None else ""
    if "Programmed" not in verdicts:
        shown = old.config_digest
    status = MailRelayStatus(
        observed_generation=generation,
        generation_in_force=found.in_force.generation if found.in_force is not None else None,
        conditions=judged(
            "MailRelay",
            old.conditions,
            verdicts,
            generation=generation,
            now=facts.now,
        ),
        ready=f"{seen.ready}/{max(spec.replicas if spec is not None else 0, found.running)}",
        endpoint=endpoint.shown if endpoint is not None else None,
        addresses=_addresses(facts, endpoint),
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
        queue=queue,
        config_digest=shown,
    )
    return status, queue != old.queue


def _addresses(facts: RelayFacts, endpoint: Endpoint | None) -> tuple[StatusAddress, ...]:
    """The name for clients of the cluster, then what a load balancer was given, names first."""
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


def look_again_at(facts: RelayFacts, status: MailRelayStatus, *, in_transit: bool) -> datetime:
    """Soon while something is on its way, ever later the longer it takes; else once a minute for
    the numbers."""
    programmed = find_condition(status.conditions, "Programmed")
    settled = programmed is None or programmed.status == "True" or not status.config_digest
    if programmed is None or (settled and not in_transit):
        return facts.now + LOOK_EVERY
    since = parse_timestamp(programmed.last_transition_time) or facts.now
    if programmed.status == "True":
        since = facts.now
    wait = max(LOOK_SOON, min((facts.now - since) / 4, LOOK_LATER))
    return facts.now + wait


def problems_of(
    found: Survey, troubles: Sequence[Trouble], senders: Sequence[SenderPlan]
) -> Iterator[str]:
    """For a person at a terminal: everything that is not acted upon, by object."""
    here = f"MailRelay {found.relay['metadata'].get('namespace', '')}/{name_of(found.relay)}"
    for trouble in (found.refused, *found.unresolved, *troubles):
        if trouble is not None and trouble.reason is not Reason.CONFIGURATION_PENDING:
            yield f"{here}: {trouble.reason}: {trouble.message}"
    for sender in senders:
        metadata = sender.manifest["metadata"]
        who = f"MailSender {metadata.get('namespace', '')}/{metadata['name']}"
        for trouble in (sender.refused, sender.unresolved):
            if trouble is not None:
                yield f"{who}: {trouble.reason}: {trouble.message}"


def plan_failure(facts: RelayFacts, plan: Plan, message: str) -> Plan:
    """The statuses to write when the API server refused an object of this plan: as planned, but not
    Programmed."""
    if facts.relay is None:
        return Plan(statuses=plan.statuses)
    relay = facts.relay
    verdict = Trouble(reason=Reason.APPLY_FAILED, message=message).verdict()
    mine = next((one for one in plan.statuses if one["kind"] == "MailRelay"), None)
    old = relay_status_of(relay)
    planned = relay_status_of(mine) if mine is not None else old
    not_ready = Verdict(
        status="False",
        reason=Reason.APPLY_FAILED,
        message=f"Programmed is False: {message}",
    )
    verdicts = {"Programmed": verdict, "Ready": not_ready}
    # From the old conditions, so that what was False already keeps the time since when it is.
    changed = judged(
        "MailRelay",
        old.conditions,
        verdicts,
        generation=generation_of(relay),
        now=facts.now,
    )
    by_type = {condition.type: condition for condition in changed}
    conditions = tuple(
        by_type[condition.type] if condition.type in verdicts else condition
        for condition in planned.conditions
    )
    status = planned.model_copy(update={"conditions": conditions})
    written = status_object(relay, status, old)
    others = tuple(one for one in plan.statuses if one["kind"] != "MailRelay")
    return Plan(
        statuses=((written,) if written else ()) + others,
        events=transitions(relay, old.conditions, conditions),
    )
