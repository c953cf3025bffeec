"""PURE: the facts of a relay, understood: which spec is in force, what is known from before, what
is ours, what runs.

Both questions stand on it: what has to be minted (`wanted`), and what is to be done (relay.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from mailrelay_gateway import config
from mailrelay_gateway.config import FILE_NAME, RELAY_FILE, Certificate
from mailrelay_operator.api import names
from mailrelay_operator.api.mailrelay import MailRelay, MailRelaySpec
from mailrelay_operator.api.reasons import Reason
from mailrelay_operator.plan import resolving, senders
from mailrelay_operator.plan.certificates import names_of_relay, parse_chain, why_leaf_is_due
from mailrelay_operator.plan.facts import (
    Absence,
    Authority,
    LeafWanted,
    Material,
    ObjectKey,
    RelayFacts,
    Wanted,
)
from mailrelay_operator.plan.gateway_config import is_placeholder, read_back
from mailrelay_operator.plan.objects import Manifest, generation_of, secret_data
from mailrelay_operator.plan.ownership import is_ours
from mailrelay_operator.plan.remembered import (
    KEY,
    RememberedRelay,
    RememberedSender,
    decode_relay,
    decode_senders,
)
from mailrelay_operator.plan.resolving import Before, Resolved, resolve
from mailrelay_operator.plan.senders import SenderPlan, plan_senders
from mailrelay_operator.plan.verdicts import Trouble, read_relay, with_spec
from mailrelay_operator.plan.volumes import claims_to_read


@dataclass(frozen=True, slots=True, kw_only=True)
class InForce:
    """The spec by which the relay runs: the newest, or the last one that could be used."""

    spec: MailRelaySpec
    raw: Manifest
    generation: int
    resolved: Resolved
    is_newest: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What the facts say of a relay that exists.

    `refused` is why the newest spec is not accepted, `unresolved` what is wrong with its
    references, `foreign` which of our names are taken by others' objects. `running` is how many
    replicas there may be, mail in their queues.
    """

    relay: Manifest
    refused: Trouble | None
    unresolved: tuple[Trouble, ...]
    in_force: InForce | None
    foreign: tuple[Trouble, ...]
    authority: Authority | None
    admin_token: str
    leaf: Certificate | None
    senders: tuple[SenderPlan, ...]
    written: str
    written_senders: Mapping[str, config.Sender]
    stateful_set: Manifest | None
    running: int


def own_objects(namespace: str, name: str) -> frozenset[ObjectKey]:
    """Everything of a relay that bears a name of ours: to be read before anything else."""
    found = {("Secret", secret) for secret in names.config_secret_names(name).values()}
    found |= {
        ("Secret", names.ca_secret_name(name)),
        ("Secret", names.admin_secret_name(name)),
        ("ServiceAccount", names.service_account_name(name)),
        ("StatefulSet", names.stateful_set_name(name)),
        ("Service", names.service_name(name)),
        ("Service", names.pods_service_name(name)),
        ("PodDisruptionBudget", names.disruption_budget_name(name)),
        ("NetworkPolicy", names.network_policy_name(name)),
    }
    return frozenset(ObjectKey(kind=kind, namespace=namespace, name=child) for kind, child in found)


def referenced_objects(facts: RelayFacts) -> frozenset[ObjectKey]:
    """What else has to be read, now that the relay's own objects are among the facts."""
    if facts.relay is None:
        return frozenset()
    found: set[ObjectKey] = set()
    newest = read_relay(facts.relay)
    if isinstance(newest, MailRelay):
        found.update(resolving.references(newest.spec, facts.namespace))
    remembered = _remembered_relay(facts)
    older = None if remembered is None else _read_remembered(facts.relay, remembered)
    if isinstance(older, MailRelay):
        found.update(resolving.references(older.spec, facts.namespace))
    found.update(senders.references(facts.senders, _remembered_senders(facts)))
    found.update(claims_to_read(facts))
    return frozenset(found)


def namespaces_needed(facts: RelayFacts) -> frozenset[str]:
    """The namespaces whose labels decide whom the relay admits; none when it does not ask for
    labels."""
    if facts.relay is None:
        return frozenset()
    newest, remembered = read_relay(facts.relay), _remembered_relay(facts)
    older = None if remembered is None else _read_remembered(facts.relay, remembered)
    selects = any(
        entry.namespaces.from_ == "Selector"
        for model in (newest, older)
        if isinstance(model, MailRelay)
        for entry in model.spec.allowed_senders
    )
    if not selects:
        return frozenset()
    return frozenset(str(sender["metadata"].get("namespace", "")) for sender in facts.senders)


def survey(facts: RelayFacts, relay: Manifest, material: Material) -> Survey:
    """Understand the facts of this relay, with what was minted for it so far."""
    existing = read_back(_files(facts))
    before = _before(facts, relay, existing)
    newest = read_relay(relay)
    refused = newest if isinstance(newest, Trouble) else None
    unresolved: tuple[Trouble, ...] = ()
    in_force: InForce | None = None
    if isinstance(newest, MailRelay):
        resolved = resolve(facts, newest.spec, before)
        unresolved = resolved.troubles
        if resolved.complete:
            in_force = InForce(
                spec=newest.spec,
                raw=relay.get("spec", {}),
                generation=generation_of(relay),
                resolved=resolved,
                is_newest=True,
            )
    if in_force is None:
        in_force = _remembered_in_force(facts, relay, before)
        if in_force is not None and refused is not None:
            unresolved = in_force.resolved.troubles
    authority, authority_trouble = _authority(facts, relay)
    token, token_trouble = _admin_token(facts, relay)
    foreign = [*_foreign(facts, relay), *(one for one in (authority_trouble, token_trouble) if one)]
    if authority_trouble is None:
        authority = authority or material.authority
    written_senders = {one.uid: one for one in existing.senders} if existing is not None else {}
    planned = plan_senders(
        facts,
        allowed=in_force.spec.allowed_senders if in_force is not None else (),
        remembered=_remembered_senders(facts),
        existing=written_senders,
        material=material,
    )
    found = facts.find("StatefulSet", facts.namespace, names.stateful_set_name(facts.name))
    stateful_set = found if not isinstance(found, Absence) and is_ours(found, relay) else None
    return Survey(
        relay=relay,
        refused=refused,
        unresolved=unresolved,
        in_force=in_force,
        foreign=tuple(dict.fromkeys(foreign)),
        authority=authority,
        admin_token=token or material.admin_token,
        leaf=material.leaf or _leaf_before(facts, in_force, authority, before),
        senders=planned,
        written=existing.digest if existing is not None else "",
        written_senders=written_senders,
        stateful_set=stateful_set,
        running=_running(facts, stateful_set, existing),
    )


def wanted(facts: RelayFacts) -> Wanted:
    """What has to be minted before this relay's plan can be made."""
    if facts.relay is None:
        return Wanted()
    found = survey(facts, facts.relay, Material())
    if found.in_force is None:
        return Wanted()
    may_mint = found.authority is not None or _is_missing(facts, names.ca_secret_name(facts.name))
    needs_own = needs_own_certificate(found.in_force.spec) and may_mint
    leaf = None
    if needs_own and found.leaf is None:
        dns, addresses = _names(facts, found.in_force.spec)
        leaf = LeafWanted(dns_names=dns, addresses=addresses, authority=found.authority)
    return Wanted(
        authority=needs_own and found.authority is None,
        admin_token=_is_missing(facts, names.admin_secret_name(facts.name)),
        leaf=leaf,
        passwords=frozenset(one.uid for one in found.senders if one.wants_password),
        scrypts={
            one.uid: one.wants_scrypt for one in found.senders if one.wants_scrypt is not None
        },
    )


def needs_own_certificate(spec: MailRelaySpec) -> bool:
    """Whether some listener uses a certificate of the relay's private CA."""
    return any(
        listener.tls.mode != "None" and not listener.tls.certificate_refs
        for listener in spec.listeners
    )


def _is_missing(facts: RelayFacts, secret: str) -> bool:
    return facts.find("Secret", facts.namespace, secret) is Absence.MISSING


def _names(facts: RelayFacts, spec: MailRelaySpec) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return names_of_relay(
        namespace=facts.namespace,
        name=facts.name,
        hostname=spec.hostname,
        service_hostname=spec.service.hostname,
        cluster_domain=facts.place.cluster_domain,
        standalone=facts.place.standalone,
    )


def _own_secret(facts: RelayFacts, secret: str) -> dict[str, bytes]:
    """What a Secret of ours holds; nothing when it is missing or another's."""
    found = facts.find("Secret", facts.namespace, secret)
    if isinstance(found, Absence) or facts.relay is None or not is_ours(found, facts.relay):
        return {}
    return secret_data(found)


def _files(facts: RelayFacts) -> dict[str, bytes]:
    by_file = {
        file: _own_secret(facts, secret).get(FILE_NAME)
        for file, secret in names.config_secret_names(facts.name).items()
    }
    return {file: octets for file, octets in by_file.items() if octets}


def _remembered_relay(facts: RelayFacts) -> RememberedRelay | None:
    return decode_relay(_own_secret(facts, names.config_secret_name(facts.name)).get(KEY))


def _remembered_senders(facts: RelayFacts) -> Mapping[str, RememberedSender]:
    found: dict[str, RememberedSender] = {}
    for file, secret in names.config_secret_names(facts.name).items():
        if file != RELAY_FILE:
            found |= decode_senders(_own_secret(facts, secret).get(KEY))
    return found


def _read_remembered(relay: Manifest, remembered: RememberedRelay) -> MailRelay | Trouble:
    return read_relay(with_spec(relay, remembered.spec, remembered.generation))


def _before(
    facts: RelayFacts, relay: Manifest, existing: config.GatewayConfig | None
) -> Before | None:
    remembered = _remembered_relay(facts)
    if remembered is None or existing is None or is_placeholder(existing.relay):
        return None
    model = _read_remembered(relay, remembered)
    return None if isinstance(model, Trouble) else Before(spec=model.spec, document=existing.relay)


def _remembered_in_force(
    facts: RelayFacts, relay: Manifest, before: Before | None
) -> InForce | None:
    remembered = _remembered_relay(facts)
    if remembered is None:
        return None
    model = _read_remembered(relay, remembered)
    if isinstance(model, Trouble):
        return None
    resolved = resolve(facts, model.spec, before)
    if not resolved.complete:
        return None
    return InForce(
        spec=model.spec,
        raw=remembered.spec,
        generation=remembered.generation,
        resolved=resolved,
        is_newest=False,
    )


def _foreign(facts: RelayFacts, relay: Manifest) -> Iterator[Trouble]:
    for key in sorted(own_objects(facts.namespace, facts.name)):
        found = facts.find(key.kind, key.namespace, key.name)
        if found is Absence.FORBIDDEN or (
            not isinstance(found, Absence) and not is_ours(found, relay)
        ):
            yield Trouble(
                reason=Reason.NOT_OWNED,
                message=f"{key} exists and is not ours, so it is left alone: delete or rename it,"
                " or give the MailRelay another name.",
            )


def _authority(facts: RelayFacts, relay: Manifest) -> tuple[Authority | None, Trouble | None]:
    secret = names.ca_secret_name(facts.name)
    found = facts.find("Secret", facts.namespace, secret)
    if isinstance(found, Absence) or not is_ours(found, relay):
        return None, None
    data = {key: octets.decode(errors="replace") for key, octets in secret_data(found).items()}
    authority = Authority(certificate=data.get("ca.crt", ""), key=data.get("ca.key", ""))
    if not parse_chain(authority.certificate) or not authority.key:
        return None, _damaged(facts, secret, "a CA in ca.crt and ca.key")
    return authority, None


def _admin_token(facts: RelayFacts, relay: Manifest) -> tuple[str, Trouble | None]:
    secret = names.admin_secret_name(facts.name)
    found = facts.find("Secret", facts.namespace, secret)
    if isinstance(found, Absence) or not is_ours(found, relay):
        return "", None
    token = secret_data(found).get("token", b"").decode(errors="replace").strip()
    return token, None if token else _damaged(facts, secret, "a token")


def _damaged(facts: RelayFacts, secret: str, what: str) -> Trouble:
    return Trouble(
        reason=Reason.NOT_OWNED,
        message=f"Secret {facts.namespace}/{secret} does not hold {what}: delete it, and it is made"
        " anew.",
    )


def _leaf_before(
    facts: RelayFacts,
    in_force: InForce | None,
    authority: Authority | None,
    before: Before | None,
) -> Certificate | None:
    """The relay's own certificate as it is in use, while it still serves."""
    if in_force is None or authority is None or before is None:
        return None
    dns, addresses = _names(facts, in_force.spec)
    for listener in before.document.listeners:
        for certificate in listener.tls.certificates:
            due = why_leaf_is_due(
                certificate,
                authority=authority.certificate,
                dns_names=dns,
                addresses=addresses,
                now=facts.now,
            )
            if due is None:
                return certificate
    return None


def _running(
    facts: RelayFacts, stateful_set: Manifest | None, existing: config.GatewayConfig | None
) -> int:
    """How many replicas there may be, and mail with each: what the StatefulSet says, or, while it
    is being replaced, the pods that are left of it and the figure that gateways were told."""
    if facts.place.standalone:
        return 0
    ordinals = [int(pod.name.rpartition("-")[2]) for pod in facts.pods if _has_ordinal(pod.name)]
    highest = max(ordinals, default=-1) + 1
    if stateful_set is not None:
        return max(int(stateful_set["spec"].get("replicas", 1)), highest)
    told = existing.relay.replicas if existing and not is_placeholder(existing.relay) else 0
    return max(told, highest)


def _has_ordinal(pod: str) -> bool:
    return pod.rpartition("-")[2].isdecimal()
