"""PURE: the plan of a MailRelay and of all MailSenders that name it. One function, read from top to
bottom.

The order of thought: what is in force, what the gateways shall know, which objects make it so, what
runs, what to say.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from mailrelay_gateway.config import RELAY_FILE
from mailrelay_operator.api import names
from mailrelay_operator.plan.configuration import Configuration, configure, replicas_of
from mailrelay_operator.plan.endpoint import Endpoint, endpoint_of
from mailrelay_operator.plan.facts import Absence, Adoption, ClaimGrowth, Material, Plan, RelayFacts
from mailrelay_operator.plan.manifests import network, secrets, services, statefulset
from mailrelay_operator.plan.objects import Manifest, is_being_deleted, name_of, uid_of
from mailrelay_operator.plan.ownership import adoption, is_ours
from mailrelay_operator.plan.relay_status import (
    look_again_at,
    obstacles,
    problems_of,
    relay_status,
    verdicts_of,
)
from mailrelay_operator.plan.remembered import RememberedRelay, encode_relay
from mailrelay_operator.plan.running import everybody_knows, everybody_runs, stamps
from mailrelay_operator.plan.sender_status import orphaned_statuses, sender_objects
from mailrelay_operator.plan.senders import SecretState
from mailrelay_operator.plan.shares import pack
from mailrelay_operator.plan.status import relay_status_of, status_object, transitions
from mailrelay_operator.plan.survey import InForce, Survey, own_objects, survey
from mailrelay_operator.plan.volumes import claimed_size, growth, volume_octets


def plan_relay(facts: RelayFacts, material: Material) -> Plan:
    """What to do for this relay now. `material` answers `survey.wanted(facts)`."""
    relay = facts.relay
    if relay is None or is_being_deleted(relay):
        statuses, events = orphaned_statuses(facts)
        problems = (f"There is no MailRelay {facts.namespace}/{facts.name}.",)
        return Plan(statuses=statuses, events=events, problems=problems)
    found = survey(facts, relay, material)
    shares, senders = pack(found.senders)
    found = replace(found, senders=senders)
    replicas = replicas_of(facts, found)
    configuration = configure(facts, found, shares, replicas)
    endpoint = _endpoint(facts, found)
    troubles = tuple(obstacles(facts, found, configuration))
    plan = Plan()
    if found.in_force is not None and configuration is not None:
        plan = _objects(facts, found, found.in_force, configuration, material, replicas)
    known = facts.place.standalone or (
        configuration is not None and everybody_knows(facts.pods, configuration.digest)
    )
    verdicts = verdicts_of(facts, found, configuration, troubles, replicas)
    status, numbers = relay_status(facts, found, configuration, endpoint, verdicts)
    old = relay_status_of(relay)
    written = status_object(relay, status, old)
    in_transit = bool(plan.grow or plan.orphan) or "Programmed" not in verdicts
    of_senders = sender_objects(facts, found, endpoint, known=known)
    return replace(
        plan,
        adopt=tuple(_adoptions(facts, found)),
        create=plan.create + of_senders.create,
        apply=plan.apply + of_senders.apply,
        statuses=(*((written,) if written else ()), *of_senders.statuses),
        events=(*transitions(relay, old.conditions, status.conditions), *of_senders.events),
        look_again_at=look_again_at(facts, status, in_transit=in_transit or of_senders.waits),
        wrote_numbers=numbers and written is not None,
        settled=configuration is None or everybody_runs(facts.pods, configuration.digest),
        problems=tuple(problems_of(found, troubles, senders)),
    )


def _adoptions(facts: RelayFacts, found: Survey) -> Iterator[Adoption]:
    """Children of ours whose owner was made anew, as after a restore: the garbage collector is
    about to take them."""
    for key in sorted(own_objects(facts.namespace, facts.name)):
        child = facts.find(key.kind, key.namespace, key.name)
        if not isinstance(child, Absence) and (one := adoption(child, found.relay)) is not None:
            yield one
    for sender in found.senders:
        if sender.secret is not None and sender.secret_state is not SecretState.NONE:
            of_sender = adoption(sender.secret, sender.manifest)
            if of_sender is not None:
                yield of_sender


def _endpoint(facts: RelayFacts, found: Survey) -> Endpoint | None:
    if found.in_force is None:
        return None
    return endpoint_of(
        found.in_force.spec,
        namespace=facts.namespace,
        name=facts.name,
        place=facts.place,
        resolved=found.in_force.resolved,
        own_authority=found.authority.certificate if found.authority is not None else "",
    )


def _objects(
    facts: RelayFacts,
    found: Survey,
    in_force: InForce,
    configuration: Configuration,
    material: Material,
    replicas: int,
) -> Plan:
    """The relay's own objects, those of others left out."""
    relay, spec = found.relay, in_force.spec
    create: list[Manifest] = []
    if material.authority is not None:
        create.append(secrets.ca_secret(relay, material.authority))
    if material.admin_token:
        create.append(secrets.admin_secret(relay, material.admin_token))
    apply = [
        statefulset.service_account(relay),
        *_config_secrets(facts, found, in_force, configuration),
        services.pods_service(relay),
        services.client_service(relay, spec),
        network.network_policy(relay, spec, facts.place),
        network.disruption_budget(relay),
    ]
    grow: tuple[ClaimGrowth, ...] = ()
    orphan: tuple[Manifest, ...] = ()
    if found.stateful_set is not None and in_force.is_newest:
        grow, orphan = growth(facts, found.stateful_set, spec.queue.volume.size)
    # Pods that would mount another's Secret are not started; those that run go on.
    if not orphan and (found.stateful_set is not None or not found.foreign):
        volume = spec.queue.volume.size
        there = volume_octets(found.stateful_set)
        kept = there and there != volume.octets
        apply.append(
            statefulset.stateful_set(
                relay,
                spec,
                place=facts.place,
                replicas=replicas,
                volume_size=claimed_size(found.stateful_set) if kept else str(volume),
            )
        )
    return Plan(
        create=tuple(create),
        apply=tuple(one for one in apply if _may_write(facts, relay, one)),
        stamps=stamps(facts, configuration.digest),
        grow=grow,
        orphan=orphan,
        files=configuration.files,
        digest=configuration.digest,
    )


def _config_secrets(
    facts: RelayFacts, found: Survey, in_force: InForce, configuration: Configuration
) -> Iterator[Manifest]:
    remembered = RememberedRelay(
        uid=uid_of(found.relay), generation=in_force.generation, spec=in_force.raw
    )
    # The senders first: a relay's document that names a share must never be ahead of it.
    for share in configuration.shares:
        name = names.senders_secret_name(facts.name, share.number)
        there = not isinstance(facts.find("Secret", facts.namespace, name), Absence)
        if share.file is not None or share.remembered or there:
            yield secrets.config_secret(
                found.relay, name=name, file=share.file, remembered=share.remembered
            )
    yield secrets.config_secret(
        found.relay,
        name=names.config_secret_name(facts.name),
        file=configuration.files[RELAY_FILE],
        remembered=encode_relay(remembered),
    )


def _may_write(facts: RelayFacts, relay: Manifest, child: Manifest) -> bool:
    found = facts.find(child["kind"], facts.namespace, name_of(child))
    return found is Absence.MISSING or (not isinstance(found, Absence) and is_ours(found, relay))
