"""The plan of a MailRelay: its configuration, its own objects, its status, and the view for its
senders' plans. Pure.

Actions are in order of urgency: first the configuration, which revokes permissions, then the
annotations that bring it to the gateways, then everything else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from mailrelay_gateway.contract.documents import Sender
from mailrelay_gateway.contract.files import RELAY_FILE, share_name
from mailrelay_operator.api import names
from mailrelay_operator.api.reasons import Reason
from mailrelay_operator.plan.actions import Action, Apply, Create, RelayPlan, key_of
from mailrelay_operator.plan.configuration import Configuration, configure, replicas_of
from mailrelay_operator.plan.endpoint import Endpoint, endpoint_of, endpoint_trouble
from mailrelay_operator.plan.facts import Absence, Material, RelayFacts
from mailrelay_operator.plan.gateway_config import token_hash
from mailrelay_operator.plan.manifests import network, secrets, services, statefulset
from mailrelay_operator.plan.objects import Manifest, generation_of, name_of, uid_of
from mailrelay_operator.plan.own import own_objects
from mailrelay_operator.plan.ownership import adoption, is_ours
from mailrelay_operator.plan.relay_status import RelaySituation, report
from mailrelay_operator.plan.remembered import OWN_AUTHORITY, RememberedRelay, encode_relay
from mailrelay_operator.plan.rollout import is_postponed
from mailrelay_operator.plan.running import everybody_runs, known_senders, sender_faults, stamps
from mailrelay_operator.plan.senders import sender_uid
from mailrelay_operator.plan.shares import Encodings, pack
from mailrelay_operator.plan.succession import Authorities, Replaced, Succession
from mailrelay_operator.plan.survey import InForce, Survey, known_before
from mailrelay_operator.plan.verdicts import Complaint, Trouble, joined
from mailrelay_operator.plan.view import Admission, RelayView
from mailrelay_operator.plan.volumes import claimed_size, resizing, volume_octets


def plan_without_relay(facts: RelayFacts) -> RelayPlan:
    """The plan for MailSenders whose relay does not exist: their status says so."""
    what = f"MailRelay {facts.namespace}/{facts.name}"
    if facts.watched:
        trouble = Trouble(
            reason=Reason.RELAY_NOT_FOUND,
            message=f"{what} does not exist: create it, or create another MailSender with another"
            " relayRef.",
        )
    else:
        trouble = Trouble(
            reason=Reason.RELAY_NOT_WATCHED,
            message=f"The operator does not watch namespace {facts.namespace} of {what}: refer to a"
            " relay in another namespace, or add this one to the chart's"
            " watchNamespaces.",
        )
    missing = Complaint(
        kind="MailRelay", namespace=facts.namespace, name=facts.name, trouble=trouble
    )
    admissions = {
        sender_uid(one.manifest): Admission(is_newest=False, generation=generation_of(one.manifest))
        for one in facts.senders
    }
    view = RelayView(
        namespace=facts.namespace, name=facts.name, trouble=trouble, admissions=admissions
    )
    return RelayPlan(view=view, problems=(missing,))


def plan_relay(
    found: Survey, material: Material, *, encodings: Encodings | None = None
) -> RelayPlan:
    """What to do for this relay now. `material` is what `survey.wanted(found)` requires."""
    facts = found.facts
    found = _with_material(found, material)
    shares, candidates = pack(found.candidates, encodings=encodings)
    found = replace(found, candidates=candidates)
    replicas = replicas_of(facts, found)
    configuration = configure(facts, found, shares, replicas)
    endpoint = _endpoint(found)
    versions: dict[str, Mapping[str, Sender]] = {}
    if configuration is not None:
        versions = {
            configuration.file_digests[share_name(one.number)]: one.senders
            for one in shares
            if one.file is not None
        }
    view = RelayView(
        namespace=facts.namespace,
        name=facts.name,
        trouble=_senders_trouble(found),
        endpoint=endpoint,
        unusable=endpoint_trouble(endpoint, found.in_force.resolved) if found.in_force else None,
        admissions={one.uid: one.admission for one in candidates},
        known=_known(found, configuration, versions),
        faults=sender_faults(facts.pods),
        starting=not facts.place.standalone and not any(pod.ready for pod in facts.pods),
    )
    reported = report(
        RelaySituation(
            found=found, configuration=configuration, endpoint=endpoint, replicas=replicas
        )
    )
    actions: tuple[Action, ...] = tuple(_adoptions(found))
    if found.in_force is not None and configuration is not None:
        actions += tuple(_actions(found, found.in_force, configuration, material, replicas))
    return RelayPlan(
        actions=actions + reported.actions,
        view=view,
        files=configuration.files if configuration is not None else {},
        digest=configuration.digest if configuration is not None else "",
        trust=found.trust,
        versions=versions,
        settled=configuration is None or everybody_runs(facts.pods, configuration.digest),
        look_again_at=reported.look_again_at,
        wrote_numbers=reported.wrote_numbers,
        problems=tuple(reported.problems),
    )


def _with_material(found: Survey, material: Material) -> Survey:
    """The survey as if the generated material had already existed."""
    if material.authority is not None:
        authorities = Authorities(current=material.authority)
        replaced = found.succession.replaced if found.succession is not None else None
        found = replace(
            found,
            succession=Succession(authorities=authorities, replaced=replaced or _lost(found)),
            trust=authorities.bundle,
        )
    if material.admin_token:
        found = replace(
            found,
            admin_token=material.admin_token,
            admin_token_sha256=token_hash(material.admin_token),
        )
    return replace(found, leaf=material.leaf or found.leaf)


def _lost(found: Survey) -> Replaced | None:
    """Whether a CA is generated because the one in use is gone, not because there was none."""
    return Replaced.LOST if known_before(found.facts) else None


def _senders_trouble(found: Survey) -> Trouble | None:
    """Why the relay admits no senders at all."""
    if found.in_force is not None:
        return None
    why = found.refused or joined(found.unresolved)
    return Trouble(
        reason=Reason.RELAY_NOT_ACCEPTED,
        message=f"MailRelay {found.facts.namespace}/{found.facts.name} has never been in effect:"
        f" {why.message if why else 'see its conditions.'}",
    )


def _known(
    found: Survey, configuration: Configuration | None, versions: Mapping[str, Mapping[str, Sender]]
) -> frozenset[str]:
    if configuration is None:
        return frozenset()
    if found.facts.place.standalone:
        return frozenset(one.uid for one in found.candidates if one.admission.entry is not None)
    facts = found.facts
    return known_senders(facts.pods, configuration.shares, {**facts.versions, **versions})


def _adoptions(found: Survey) -> Iterator[Action]:
    """Adopts children whose owner was re-created, as after a restore, before the garbage collector
    deletes them."""
    facts = found.facts
    for key in sorted(own_objects(facts.namespace, facts.name)):
        child = facts.find(key.kind, key.namespace, key.name)
        if not isinstance(child, Absence) and (one := adoption(child, found.relay)) is not None:
            yield one


def _endpoint(found: Survey) -> Endpoint | None:
    if found.in_force is None:
        return None
    return endpoint_of(
        found.in_force.spec,
        namespace=found.facts.namespace,
        name=found.facts.name,
        place=found.facts.place,
        resolved=found.in_force.resolved,
        own_authority=found.trust,
    )


def _actions(
    found: Survey,
    in_force: InForce,
    configuration: Configuration,
    material: Material,
    replicas: int,
) -> Iterator[Action]:
    """The relay's own objects, without those that belong to someone else."""
    facts, relay, spec = found.facts, found.relay, in_force.spec
    owner = key_of(relay)
    yield from _authorities(found, material)
    if material.admin_token:
        yield Create(owner=owner, manifest=secrets.admin_secret(relay, material.admin_token))
    for one in _config_secrets(found, in_force, configuration):
        if _may_write(facts, relay, one):
            yield Apply(owner=owner, manifest=one)
    yield from stamps(facts, relay, configuration.digest)
    for one in (
        statefulset.service_account(relay),
        services.pods_service(relay),
        services.client_service(relay, spec),
        network.network_policy(relay, spec, facts.place),
        network.disruption_budget(relay),
    ):
        if _may_write(facts, relay, one):
            yield Apply(owner=owner, manifest=one)
    resized: tuple[Action, ...] = ()
    if found.stateful_set is not None and in_force.is_newest:
        resized = resizing(facts, relay, found.stateful_set, spec.queue.volume.size)
    yield from resized
    replaced = any(one.target.kind == "StatefulSet" for one in resized)
    # Do not start pods that would mount someone else's Secret; running pods stay.
    if not replaced and (found.stateful_set is not None or not found.obstructed):
        one = _stateful_set(found, in_force, replicas)
        postponed = is_postponed(
            found.stateful_set, one, uid=uid_of(relay), place=facts.place, now=facts.now
        )
        if _may_write(facts, relay, one) and not postponed:
            yield Apply(owner=owner, manifest=one)


def _authorities(found: Survey, material: Material) -> Iterator[Action]:
    """The Secret of the CAs. A next one is in no `ca.crt` before it is stored here: until then its
    key could be lost, and with it the days for which clients knew it."""
    facts, relay = found.facts, found.relay
    kept = found.succession.authorities if found.succession is not None else None
    if kept is None:
        return
    if material.next_authority is not None:
        kept = replace(kept, next=material.next_authority)
    owner = key_of(relay)
    read = facts.find("Secret", facts.namespace, names.ca_secret_name(facts.name))
    if isinstance(read, Absence):
        yield Create(owner=owner, manifest=secrets.ca_secret(relay, kept))
    elif kept != found.stored:
        # A takeover is decided alike in every round, so nothing has to wait for it.
        yield Apply(
            owner=owner,
            manifest=secrets.ca_secret(relay, kept, read=read),
            first=material.authority is not None,
        )


def _stateful_set(found: Survey, in_force: InForce, replicas: int) -> Manifest:
    volume = in_force.spec.queue.volume.size
    there = volume_octets(found.stateful_set)
    kept = there and there != volume.octets
    return statefulset.stateful_set(
        found.relay,
        in_force.spec,
        place=found.facts.place,
        replicas=replicas,
        volume_size=claimed_size(found.stateful_set) if kept else str(volume),
    )


def _config_secrets(
    found: Survey, in_force: InForce, configuration: Configuration
) -> Iterator[Manifest]:
    facts = found.facts
    remembered = RememberedRelay(
        uid=uid_of(found.relay),
        generation=in_force.generation,
        spec=in_force.raw,
        authorities={
            name: pem
            for name, pem in (
                (OWN_AUTHORITY, found.trust),
                *in_force.resolved.given_authorities.items(),
            )
            if pem
        },
    )
    for share in configuration.shares:
        name = names.senders_secret_name(facts.name, share.number)
        there = not isinstance(facts.find("Secret", facts.namespace, name), Absence)
        if share.file is not None or there:
            yield secrets.config_secret(found.relay, name=name, file=share.file, remembered=b"")
    yield secrets.config_secret(
        found.relay,
        name=names.config_secret_name(facts.name),
        file=configuration.files[RELAY_FILE],
        remembered=encode_relay(remembered),
    )


def _may_write(facts: RelayFacts, relay: Manifest, child: Manifest) -> bool:
    found = facts.find(child["kind"], facts.namespace, name_of(child))
    return found is Absence.MISSING or (not isinstance(found, Absence) and is_ours(found, relay))
