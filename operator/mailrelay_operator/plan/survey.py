"""Interprets the facts of a relay: which spec is in effect, what is known from before, which
objects belong to it, what runs. Pure.

Made once per reconciliation: both what has to be generated (`wanted`) and the plan (relay.py)
derive from it.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import TypeAdapter, ValidationError

from mailrelay_gateway.contract.documents import Certificate
from mailrelay_gateway.contract.files import FILE_NAME, GatewayConfig
from mailrelay_operator.api import names
from mailrelay_operator.api.admission import DEFAULT_ALLOWED_SENDERS, AllowedSenders
from mailrelay_operator.api.mailrelay import MailRelay, MailRelaySpec
from mailrelay_operator.plan import resolving
from mailrelay_operator.plan.certificates import (
    names_of_relay,
    why_leaf_is_due,
)
from mailrelay_operator.plan.facts import (
    Absence,
    Authority,
    LeafWanted,
    ObjectKey,
    RelayFacts,
    Wanted,
)
from mailrelay_operator.plan.gateway_config import is_placeholder, read_back, token_hash
from mailrelay_operator.plan.objects import (
    Manifest,
    generation_of,
    namespace_of,
    uid_of,
)
from mailrelay_operator.plan.own import (
    find_authorities,
    is_missing,
    obstructed,
    own_secret,
    read_admin_token,
)
from mailrelay_operator.plan.ownership import is_ours
from mailrelay_operator.plan.remembered import KEY, OWN_AUTHORITY, RememberedRelay, decode_relay
from mailrelay_operator.plan.resolving import Before, Resolved, resolve
from mailrelay_operator.plan.senders import Candidate, admit
from mailrelay_operator.plan.succession import (
    Authorities,
    Succession,
    succeed,
    trust_digest,
)
from mailrelay_operator.plan.verdicts import Trouble, read_relay, with_spec
from mailrelay_operator.plan.volumes import claims_to_read

_ALLOWED_SENDERS: TypeAdapter[tuple[AllowedSenders, ...]] = TypeAdapter(tuple[AllowedSenders, ...])


@dataclass(frozen=True, slots=True, kw_only=True)
class InForce:
    """The spec in effect: the newest, or the last usable one."""

    spec: MailRelaySpec
    raw: Manifest
    generation: int
    resolved: Resolved
    is_newest: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """The state of an existing relay.

    `refused` is why the newest spec is not accepted, `unresolved` what is wrong with its
    references, `obstructed` which of its objects belong to someone else, cannot be read, or cannot
    be used. `stored` are the CAs as the Secret holds them, `succession` those in effect (None while
    the Secret is unusable or missing). `trust` is the PEM that verifies this relay; it and
    `admin_token_sha256` come from the last configuration if the Secrets are unusable: gateways keep
    running, and permissions can still be revoked. `running` is how many replicas may exist, with
    mail in their queues.
    """

    facts: RelayFacts
    relay: Manifest
    refused: Trouble | None
    unresolved: tuple[Trouble, ...]
    in_force: InForce | None
    obstructed: tuple[Trouble, ...]
    stored: Authorities | None
    succession: Succession | None
    trust: str
    admin_token: str
    admin_token_sha256: str
    leaf: Certificate | None
    candidates: tuple[Candidate, ...]
    stateful_set: Manifest | None
    running: int

    @property
    def authority(self) -> Authority | None:
        """The CA that issues certificates."""
        kept = self.succession.authorities if self.succession is not None else None
        return kept.current if kept is not None else None


def referenced_objects(facts: RelayFacts) -> frozenset[ObjectKey]:
    """What else has to be read, given the relay's own objects."""
    if facts.relay is None:
        return frozenset()
    found: set[ObjectKey] = set()
    newest = read_relay(facts.relay)
    if isinstance(newest, MailRelay):
        found.update(resolving.references(newest.spec, facts.namespace))
    older = _read_remembered(facts.relay, _remembered_relay(facts))
    if older is not None:
        found.update(resolving.references(older.spec, facts.namespace))
    found.update(claims_to_read(facts))
    return frozenset(found)


def namespaces_needed(facts: RelayFacts) -> frozenset[str]:
    """The namespaces whose labels decide which senders the relay admits, or which route mail takes;
    empty if it does not select by labels. A namespace by which mail was routed stays: its mail may
    still be queued when its MailSender has been deleted."""
    if facts.relay is None:
        return frozenset()
    older = _read_remembered(facts.relay, _remembered_relay(facts))
    lists = [_readable_allowed(facts.relay), older.spec.allowed_senders if older else None]
    selects = any(
        entry.namespaces.from_ == "Selector" for entries in lists if entries for entry in entries
    )
    newest = read_relay(facts.relay)
    specs = [one.spec for one in (newest, older) if isinstance(one, MailRelay)]
    routes_by_labels = any(
        route.match.namespace_selector is not None for spec in specs for route in spec.routes
    )
    found: set[str] = set()
    if selects or routes_by_labels:
        found.update(namespace_of(one.manifest) for one in facts.senders)
    existing = read_back(_files(facts)) if routes_by_labels else None
    if existing is not None:
        for route in existing.relay.routes:
            found.update(route.match.namespaces or ())
    return frozenset(found)


def survey(facts: RelayFacts, relay: Manifest) -> Survey:
    """Interpret the facts of this relay."""
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
    authorities = find_authorities(facts, relay)
    found_token = read_admin_token(facts, relay)
    damaged = tuple(one for one in (authorities, found_token) if isinstance(one, Trouble))
    found = facts.find("StatefulSet", facts.namespace, names.stateful_set_name(facts.name))
    stateful_set = found if not isinstance(found, Absence) and is_ours(found, relay) else None
    candidates = admit(
        facts,
        allowed=_allowed(relay, in_force),
        written={one.uid: one for one in existing.senders} if existing is not None else {},
    )
    stored = authorities if isinstance(authorities, Authorities) else None
    succession = _succession(facts, stored, candidates)
    if succession is None:
        trust = _trust_before(facts)
    else:
        trust = succession.authorities.bundle if succession.authorities is not None else ""
    token = found_token if isinstance(found_token, str) else ""
    told = existing.relay.admin_token_sha256 if existing is not None else ""
    return Survey(
        facts=facts,
        relay=relay,
        refused=refused,
        unresolved=unresolved,
        in_force=in_force,
        obstructed=(*obstructed(facts, relay), *damaged),
        stored=stored,
        succession=succession,
        trust=trust,
        admin_token=token,
        admin_token_sha256=token_hash(token) if token else told,
        leaf=_leaf_before(facts, in_force, trust, existing),
        candidates=candidates,
        stateful_set=stateful_set,
        running=_running(facts, stateful_set, existing),
    )


def wanted(found: Survey) -> Wanted:
    """What has to be generated before this relay's plan can be made."""
    facts = found.facts
    if found.in_force is None:
        return Wanted()
    missing = is_missing(facts, names.ca_secret_name(facts.name))
    may_mint = found.succession is not None or missing
    # In a cluster the admin port always has TLS.
    uses_own = needs_own_certificate(found.in_force.spec) or not facts.place.standalone
    needs_own = uses_own and may_mint
    leaf = None
    if needs_own and found.leaf is None:
        dns, addresses = _names(facts, found.in_force.spec)
        leaf = LeafWanted(dns_names=dns, addresses=addresses, authority=found.authority)
    return Wanted(
        authority=needs_own and found.authority is None,
        next_authority=found.succession is not None and found.succession.wants_next,
        admin_token=is_missing(facts, names.admin_secret_name(facts.name)),
        leaf=leaf,
    )


def needs_own_certificate(spec: MailRelaySpec) -> bool:
    """Whether some listener uses a certificate of the relay's private CA."""
    return any(
        listener.tls.mode != "None" and not listener.tls.certificate_refs
        for listener in spec.listeners
    )


def _names(facts: RelayFacts, spec: MailRelaySpec) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return names_of_relay(
        namespace=facts.namespace,
        name=facts.name,
        hostname=spec.hostname,
        service_hostname=spec.service.hostname,
        cluster_domain=facts.place.cluster_domain,
        standalone=facts.place.standalone,
    )


def _files(facts: RelayFacts) -> dict[str, bytes]:
    by_file = {
        file: own_secret(facts, secret).get(FILE_NAME)
        for file, secret in names.config_secret_names(facts.name).items()
    }
    return {file: octets for file, octets in by_file.items() if octets}


def _remembered_relay(facts: RelayFacts) -> RememberedRelay | None:
    """The spec that was in effect. It is bound to a UID: a deleted relay's does not apply to a new
    one of the same name."""
    found = decode_relay(own_secret(facts, names.config_secret_name(facts.name)).get(KEY))
    if found is None or facts.relay is None or found.uid != uid_of(facts.relay):
        return None
    return found


def _read_remembered(relay: Manifest, remembered: RememberedRelay | None) -> MailRelay | None:
    if remembered is None:
        return None
    found = read_relay(with_spec(relay, remembered.spec, remembered.generation))
    return found if isinstance(found, MailRelay) else None


def _before(facts: RelayFacts, relay: Manifest, existing: GatewayConfig | None) -> Before | None:
    remembered = _remembered_relay(facts)
    model = _read_remembered(relay, remembered)
    if remembered is None or model is None or existing is None:
        return None
    if existing.relay.relay.uid != uid_of(relay):
        return None
    return Before(spec=model.spec, document=existing.relay, authorities=remembered.authorities)


def _remembered_in_force(
    facts: RelayFacts, relay: Manifest, before: Before | None
) -> InForce | None:
    remembered = _remembered_relay(facts)
    model = _read_remembered(relay, remembered)
    if remembered is None or model is None:
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


def _allowed(relay: Manifest, in_force: InForce | None) -> tuple[tuple[AllowedSenders, ...], ...]:
    """The allowedSenders that must all admit a sender: those in effect and those of the newest
    readable spec, so that a permission can be revoked even if the rest of an edit is refused."""
    if in_force is None:
        return ((),)
    newest = None if in_force.is_newest else _readable_allowed(relay)
    lists = (in_force.spec.allowed_senders, newest)
    return tuple(one for one in lists if one is not None)


def _readable_allowed(relay: Manifest) -> tuple[AllowedSenders, ...] | None:
    """`allowedSenders` of the newest spec, even if another part of it is refused; None if this
    part itself is not readable."""
    spec = relay.get("spec")
    if not isinstance(spec, dict) or "allowedSenders" not in spec:
        return DEFAULT_ALLOWED_SENDERS
    try:
        return _ALLOWED_SENDERS.validate_python(
            spec["allowedSenders"], by_alias=True, by_name=False
        )
    except ValidationError:
        return None


def known_trust(facts: RelayFacts) -> str:
    """The certificates of the relay's private CAs, which verify its admin ports; empty while there
    are none."""
    if facts.relay is None:
        return ""
    found = find_authorities(facts, facts.relay)
    return found.bundle if isinstance(found, Authorities) else _trust_before(facts)


def _succession(
    facts: RelayFacts, stored: Authorities | None, candidates: tuple[Candidate, ...]
) -> Succession | None:
    if stored is None:
        return None
    wanted_digest = trust_digest(stored.bundle)
    everywhere = all(
        facts.trusted.get(one.uid) in ("", wanted_digest)
        for one in candidates
        if one.admission.credential is not None and one.admission.credential.minted
    )
    return succeed(stored, now=facts.now, everywhere=everywhere)


def _trust_before(facts: RelayFacts) -> str:
    """The CAs' certificates if their Secret exists but is unusable. A deleted one is trusted no
    longer: that is how a person ends a CA whose key has leaked."""
    return "" if is_missing(facts, names.ca_secret_name(facts.name)) else known_before(facts)


def known_before(facts: RelayFacts) -> str:
    """The CAs' certificates that were last in effect; empty if there were none."""
    remembered = _remembered_relay(facts)
    return remembered.authorities.get(OWN_AUTHORITY, "") if remembered is not None else ""


def _leaf_before(
    facts: RelayFacts,
    in_force: InForce | None,
    authority: str,
    existing: GatewayConfig | None,
) -> Certificate | None:
    """The relay's own certificate in use, if it is still valid."""
    if in_force is None or not authority or existing is None:
        return None
    dns, addresses = _names(facts, in_force.spec)
    shown = [one for listener in existing.relay.listeners for one in listener.tls.certificates]
    if existing.relay.admin_certificate is not None:
        shown.insert(0, existing.relay.admin_certificate)
    for certificate in shown:
        due = why_leaf_is_due(
            certificate,
            authority=authority,
            dns_names=dns,
            addresses=addresses,
            now=facts.now,
        )
        if due is None:
            return certificate
    return None


def _running(
    facts: RelayFacts, stateful_set: Manifest | None, existing: GatewayConfig | None
) -> int:
    """How many replicas may exist, each with mail: from the StatefulSet and the pods that it
    controls or, while it is being replaced, from the configuration. A pod without a controller does
    not count, whatever its name and labels."""
    if facts.place.standalone:
        return 0
    if stateful_set is None:
        told = existing is not None and not is_placeholder(existing.relay)
        return existing.relay.replicas if existing is not None and told else 0
    ordinals = [int(pod.name.rpartition("-")[2]) for pod in facts.pods if _has_ordinal(pod.name)]
    return max(int(stateful_set["spec"].get("replicas", 1)), max(ordinals, default=-1) + 1)


def _has_ordinal(pod: str) -> bool:
    return pod.rpartition("-")[2].isdecimal()
