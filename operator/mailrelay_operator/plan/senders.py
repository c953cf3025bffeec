"""PURE: what becomes of each MailSender that names a relay: admitted or not, with which login, and
from which spec.

A sender's spec is in force when it passes every check; if the newest does not, the last one that
was in force is tried, so that a mistake changes nothing that runs while whatever the relay takes
back is taken back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum

from mailrelay_gateway import config
from mailrelay_gateway.config import ScryptVerifier, Sha256Verifier
from mailrelay_operator.api.admission import AllowedSenders
from mailrelay_operator.api.mailsender import MailSender
from mailrelay_operator.api.names import (
    ANNOTATION_MINTED,
    SECRET_TYPE_BINDING,
    minted_username,
    username_is_anothers,
)
from mailrelay_operator.api.reasons import Reason
from mailrelay_operator.plan.facts import Absence, Material, ObjectKey, RelayFacts, ScryptWanted
from mailrelay_operator.plan.gateway_config import token_hash
from mailrelay_operator.plan.objects import (
    Manifest,
    annotations_of,
    created_at,
    generation_of,
    is_being_deleted,
    name_of,
    namespace_of,
    secret_data,
    uid_of,
)
from mailrelay_operator.plan.ownership import is_ours
from mailrelay_operator.plan.remembered import RememberedSender
from mailrelay_operator.plan.resolving import absent, login_in
from mailrelay_operator.plan.verdicts import Trouble, read_sender, with_spec

#: A minted password has 43 characters; a shorter one in our Secret was put there by hand, and
#: SHA-256 is not for those.
SHORTEST_MINTED = 43
#: RFC 4954 has no limit of its own; RFC 4616's authcid is at most 255 octets.
LONGEST_LOGIN = 255


class SecretState(Enum):
    """The tenant's Secret, as it was found."""

    NONE = "none"  # a brought login, or nothing is in force: we write no Secret
    MISSING = "missing"
    PRESENT = "present"
    BROKEN = "broken"  # ours, but without a password of ours


@dataclass(frozen=True, slots=True, kw_only=True)
class SenderPlan:
    """One MailSender: `entry` is what the gateway learns of it (None: nothing, it cannot log in).

    `refused` is why the newest spec is not in force, `unresolved` what is wrong with its Secret.
    `password` is the one that the tenant's Secret holds or shall hold.
    """

    manifest: Manifest
    model: MailSender | None = None
    refused: Trouble | None = None
    unresolved: Trouble | None = None
    entry: config.Sender | None = None
    remembered: RememberedSender | None = None
    secret_state: SecretState = SecretState.NONE
    secret: Manifest | None = None
    password: str = field(default="", repr=False)
    wants_password: bool = False
    wants_scrypt: ScryptWanted | None = None

    @property
    def uid(self) -> str:
        """The sender's UID; in standalone its name, which is as unique."""
        return sender_uid(self.manifest)

    @property
    def secret_name(self) -> str:
        """The Secret that the tenant reads: written by us or brought."""
        if self.model is None or self.model.spec.credentials is None:
            return ""
        credentials = self.model.spec.credentials
        brought = credentials.existing_secret_ref
        return credentials.secret_name or (brought.name if brought is not None else "")

    @property
    def last_rotated(self) -> str | None:
        """When the password in the tenant's Secret was minted."""
        if self.secret is None or self.secret_state is not SecretState.PRESENT:
            return None
        return annotations_of(self.secret).get(ANNOTATION_MINTED) or created_at(self.secret) or None


def sender_uid(manifest: Manifest) -> str:
    """The UID; in standalone, where nobody gives one, NAMESPACE/NAME."""
    return uid_of(manifest) or f"{namespace_of(manifest)}/{name_of(manifest)}"


def specs_to_try(
    manifest: Manifest, remembered: RememberedSender | None
) -> tuple[MailSender | Trouble, RememberedSender | None]:
    """The newest spec as read, and the remembered one if it is another."""
    newest = read_sender(manifest)
    if remembered is not None and remembered.spec == manifest.get("spec"):
        remembered = None
    return newest, remembered


def references(
    senders: Iterable[Manifest], remembered: Mapping[str, RememberedSender]
) -> Iterable[ObjectKey]:
    """Every Secret that the senders' newest and remembered specs name."""
    for manifest in senders:
        newest, before = specs_to_try(manifest, remembered.get(sender_uid(manifest)))
        older = None if before is None else _read_remembered(manifest, before)
        for model in (newest, older):
            if not isinstance(model, MailSender) or model.spec.credentials is None:
                continue
            credentials = model.spec.credentials
            brought = credentials.existing_secret_ref
            name = credentials.secret_name or (brought.name if brought is not None else None)
            if name is not None:
                yield ObjectKey(kind="Secret", namespace=namespace_of(manifest), name=name)


def plan_senders(
    facts: RelayFacts,
    *,
    allowed: Sequence[AllowedSenders],
    remembered: Mapping[str, RememberedSender],
    existing: Mapping[str, config.Sender],
    material: Material,
) -> tuple[SenderPlan, ...]:
    """What becomes of every sender, oldest first. `allowed` is the relay's side of the handshake;
    `existing` are the senders of the configuration as it was written before, by UID."""
    plans: list[SenderPlan] = []
    for manifest in sorted(facts.senders, key=_age):
        if is_being_deleted(manifest):
            continue
        plans.append(
            _plan_sender(
                facts,
                manifest,
                allowed=allowed,
                remembered=remembered.get(sender_uid(manifest)),
                existing=existing.get(sender_uid(manifest)),
                material=material,
            )
        )
    return _without_taken_usernames(plans)


def _age(manifest: Manifest) -> tuple[str, str, str]:
    """Sorts by age, which decides between two claims; names decide between two of the same
    second."""
    return created_at(manifest), namespace_of(manifest), name_of(manifest)


def _plan_sender(
    facts: RelayFacts,
    manifest: Manifest,
    *,
    allowed: Sequence[AllowedSenders],
    remembered: RememberedSender | None,
    existing: config.Sender | None,
    material: Material,
) -> SenderPlan:
    newest, before = specs_to_try(manifest, remembered)
    refused = newest if isinstance(newest, Trouble) else why_not_admitted(facts, newest, allowed)
    model = newest if isinstance(newest, MailSender) and refused is None else None
    generation, spec = generation_of(manifest), manifest.get("spec", {})
    if model is None and before is not None:
        older = _read_remembered(manifest, before)
        if isinstance(older, MailSender) and why_not_admitted(facts, older, allowed) is None:
            model, generation, spec = older, before.generation, before.spec
    if model is None:
        return SenderPlan(manifest=manifest, refused=refused)
    kept = RememberedSender(
        uid=sender_uid(manifest),
        generation=generation,
        spec=spec,
        current=remembered.current if remembered else "",
        previous=remembered.previous if remembered else "",
    )
    plan = SenderPlan(manifest=manifest, model=model, refused=refused, remembered=kept)
    credentials = model.spec.credentials
    if credentials is None:
        return plan  # refused as Unsupported before it comes here: tokens do not act yet
    if credentials.existing_secret_ref is not None:
        return _with_brought_login(
            facts, plan, credentials.existing_secret_ref.name, existing, material
        )
    return _with_minted_login(facts, plan, kept, credentials.secret_name or "", material)


def why_not_admitted(
    facts: RelayFacts, model: MailSender, allowed: Sequence[AllowedSenders]
) -> Trouble | None:
    """The relay's side of the handshake: why this sender may not send, or None."""
    namespace = model.metadata.namespace
    relay = f"MailRelay {facts.namespace}/{facts.name}"
    labels = facts.namespaces.get(namespace, {})
    admitting = [
        entry
        for entry in allowed
        if entry.namespaces.admit(
            namespace=namespace, labels=labels, relay_namespace=facts.namespace
        )
    ]
    if not admitting:
        return Trouble(
            reason=Reason.NAMESPACE_NOT_ALLOWED,
            message=f"{relay} admits no MailSender of namespace {namespace}: its owner can add the"
            " namespace to allowedSenders, or give it the labels that they ask for.",
        )
    given = [pattern for entry in admitting for pattern in entry.effective_addresses]
    for claimed in model.spec.from_:
        if not any(pattern_covers(pattern, claimed) for pattern in given):
            return Trouble(
                reason=Reason.ADDRESS_NOT_ALLOWED,
                message=f"from: {claimed} is not among the addresses that {relay} gives namespace"
                f" {namespace} ({', '.join(given[:10])}).",
            )
    return None


def pattern_covers(pattern: str, claimed: str) -> bool:
    """Whether every address that `claimed` (`a@b` or `*@b`) means is meant by `pattern` (`a@b`,
    `*@b` or `*`) too.

    Domains know no case (RFC 5321 section 2.4); local parts are compared as they stand.
    """
    if pattern == "*":
        return True
    local, _, domain = pattern.rpartition("@")
    claimed_local, _, claimed_domain = claimed.rpartition("@")
    return domain.lower() == claimed_domain.lower() and local in ("*", claimed_local)


def _read_remembered(manifest: Manifest, before: RememberedSender) -> MailSender | Trouble:
    return read_sender(with_spec(manifest, before.spec, before.generation))


def _entry(
    plan: SenderPlan, username: str, verifiers: Sequence[config.Verifier]
) -> config.Sender | None:
    if plan.model is None:
        return None
    return config.Sender(
        uid=plan.uid,
        namespace=namespace_of(plan.manifest),
        name=name_of(plan.manifest),
        username=username,
        verifiers=tuple(verifiers),
        addresses=tuple(plan.model.spec.from_),
        suspend=plan.model.spec.suspend,
    )


def _with_brought_login(
    facts: RelayFacts,
    plan: SenderPlan,
    name: str,
    existing: config.Sender | None,
    material: Material,
) -> SenderPlan:
    """A login that the tenant brought: no Secret, no login; what was known stays only while we may
    not look."""
    namespace = namespace_of(plan.manifest)
    what = f"Secret {namespace}/{name}"
    found = facts.find("Secret", namespace, name)
    if found is Absence.FORBIDDEN and existing is not None:
        entry = _entry(plan, existing.username, existing.verifiers)
        return replace(plan, entry=entry, unresolved=absent(found, what))
    if isinstance(found, Absence):
        return replace(plan, unresolved=absent(found, what))
    login = login_in(found, what=what)
    if isinstance(login, Trouble):
        return replace(plan, unresolved=login)
    for key, text in (("username", login.username), ("password", login.password)):
        if len(text.encode()) > LONGEST_LOGIN:
            trouble = Trouble(
                reason=Reason.SECRET_INVALID,
                message=f"{what} has a {key} of over {LONGEST_LOGIN} octets; shorten it.",
            )
            return replace(plan, unresolved=trouble)
    if username_is_anothers(login.username, namespace):
        trouble = Trouble(
            reason=Reason.USERNAME_RESERVED,
            message=f"{what} has the username {login.username}, and those of this form are for"
            f" MailSenders of namespace {login.username.partition('.')[0]}: choose one without a"
            " dot, or with an @.",
        )
        return replace(plan, refused=plan.refused or trouble, remembered=None)
    known = existing.verifiers if existing is not None else ()
    wanted = ScryptWanted(
        password=login.password.encode(),
        known=tuple(one for one in known if isinstance(one, ScryptVerifier)),
    )
    verifier = material.scrypts.get(plan.uid)
    verifiers = () if verifier is None else (verifier,)
    return replace(
        plan, entry=_entry(plan, login.username, verifiers), wants_scrypt=wanted, secret=found
    )


def _with_minted_login(
    facts: RelayFacts, plan: SenderPlan, kept: RememberedSender, name: str, material: Material
) -> SenderPlan:
    """A password of ours: that of the tenant's Secret and the one before it, or a new one that is
    not shown yet."""
    namespace = namespace_of(plan.manifest)
    username = minted_username(namespace, name_of(plan.manifest))
    found = facts.find("Secret", namespace, name)
    if found is Absence.FORBIDDEN:
        plan = replace(plan, unresolved=absent(found, f"Secret {namespace}/{name}"))
        return replace(plan, entry=_entry(plan, username, _known(kept.current, kept.previous)))
    if isinstance(found, Absence):
        fresh = material.passwords.get(plan.uid, "")
        hashes = (token_hash(fresh) if fresh else "", kept.current)
        return replace(
            plan,
            entry=_entry(plan, username, _known(*hashes)),
            secret_state=SecretState.MISSING,
            password=fresh,
            wants_password=True,
        )
    if not is_ours(found, plan.manifest) or found.get("type") != SECRET_TYPE_BINDING:
        trouble = Trouble(
            reason=Reason.NOT_OWNED,
            message=f"Secret {namespace}/{name} exists and is not ours, so it is left alone: delete"
            " it, or give credentials.secretName another name.",
        )
        entry = _entry(plan, username, _known(kept.current, kept.previous))
        return replace(plan, refused=plan.refused or trouble, entry=entry)
    password = secret_data(found).get("password", b"").decode(errors="replace")
    if len(password) < SHORTEST_MINTED:
        trouble = Trouble(
            reason=Reason.SECRET_INVALID,
            message=f"Secret {namespace}/{name} no longer holds the password that was minted:"
            " delete it, and it comes back with a new one.",
        )
        entry = _entry(plan, username, _known(kept.current, kept.previous))
        return replace(
            plan, unresolved=trouble, entry=entry, secret=found, secret_state=SecretState.BROKEN
        )
    current = token_hash(password)
    if current != kept.current:
        kept = replace(kept, current=current, previous=kept.current)
    return replace(
        plan,
        entry=_entry(plan, username, _known(kept.current, kept.previous)),
        remembered=kept,
        secret=found,
        secret_state=SecretState.PRESENT,
        password=password,
    )


def _known(*hashes: str) -> tuple[Sha256Verifier, ...]:
    return tuple(Sha256Verifier(hash=one) for one in dict.fromkeys(hashes) if one)


def _without_taken_usernames(plans: Sequence[SenderPlan]) -> tuple[SenderPlan, ...]:
    """A username is one sender's: minted names are the sender's by right, of brought ones the
    oldest keeps it."""
    owner: dict[str, str] = {
        plan.entry.username: plan.uid
        for plan in plans
        if plan.entry is not None and plan.wants_scrypt is None and _is_minted(plan)
    }
    kept: list[SenderPlan] = []
    for plan in plans:
        entry = plan.entry
        if entry is not None and owner.setdefault(entry.username, plan.uid) != plan.uid:
            trouble = Trouble(
                reason=Reason.USERNAME_TAKEN,
                message=f"The username {entry.username} is another MailSender's of this relay:"
                f" choose another in Secret {entry.namespace}/{plan.secret_name}.",
            )
            plan = replace(
                plan,
                entry=None,
                wants_scrypt=None,
                remembered=None,
                refused=plan.refused or trouble,
            )
        kept.append(plan)
    return tuple(kept)


def _is_minted(plan: SenderPlan) -> bool:
    credentials = plan.model.spec.credentials if plan.model is not None else None
    return credentials is not None and credentials.secret_name is not None
