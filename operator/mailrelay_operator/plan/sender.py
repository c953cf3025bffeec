"""The plan of one MailSender: its Secret, once every ready replica has its password, and its
status. It does not depend on other senders. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from mailrelay_gateway.contract.documents import Sha256Verifier, Verifier
from mailrelay_gateway.contract.moments import rfc3339
from mailrelay_operator.api.mailsender import MailSender
from mailrelay_operator.api.names import ANNOTATION_MINTED
from mailrelay_operator.api.reasons import Reason
from mailrelay_operator.plan.actions import Action, Announce, Apply, SenderPlan, key_of
from mailrelay_operator.plan.credentials import (
    REVOKED_WITHIN,
    Credentials,
    SecretState,
    ends_at,
    find_credentials,
    login_of,
    newly_ending,
    revocation_mark,
)
from mailrelay_operator.plan.facts import (
    Absence,
    Failure,
    Lookup,
    ObjectKey,
    SenderLogin,
    SenderMaterial,
)
from mailrelay_operator.plan.gateway_config import token_hash
from mailrelay_operator.plan.manifests.secrets import binding_secret
from mailrelay_operator.plan.objects import (
    Manifest,
    annotations_of,
    created_at,
    generation_of,
    namespace_of,
)
from mailrelay_operator.plan.ownership import adoption
from mailrelay_operator.plan.sender_status import Situation, report
from mailrelay_operator.plan.senders import sender_uid
from mailrelay_operator.plan.status import regarding
from mailrelay_operator.plan.verdicts import Complaint, Trouble, complaint
from mailrelay_operator.plan.view import Admission, RelayView

#: How long a new MailSender may take to get its Secret before its status says that it is pending.
SETTLES_IN = timedelta(seconds=10)
#: The same while its relay starts, whose own status says so: where a whole platform is installed, a
#: thousand statuses that nobody waits for would delay the start of all relays.
STARTS_IN = timedelta(seconds=60)


@dataclass(frozen=True, slots=True, kw_only=True)
class SenderFacts:
    """Everything that a MailSender's plan depends on: itself, its view of the relay, its Secret,
    the login known before, what could not be written, when it was first seen, and since when its
    relay has a ready pod."""

    manifest: Manifest
    model: MailSender | Trouble
    view: RelayView
    now: datetime
    secret: Lookup = Absence.MISSING
    login: SenderLogin | None = None
    failures: Mapping[ObjectKey, Failure] = field(default_factory=dict)
    since: datetime | None = None
    serving_since: datetime | None = None

    @property
    def is_new(self) -> bool:
        """Whether it was first seen too recently to report that it is pending."""
        return self.since is not None and self.now < _told_at(self.since, self.serving_since)

    @property
    def admission(self) -> Admission:
        """The relay's side of the handshake."""
        return admission_of(self.view, self.manifest)

    @property
    def verifiers(self) -> Sequence[Verifier]:
        """The verifiers known so far: from the last plan or, after a start, from the
        configuration.
        """
        if self.login is not None:
            return self.login.verifiers
        entry = self.admission.entry
        return entry.verifiers if entry is not None else ()


def admission_of(view: RelayView, manifest: Manifest) -> Admission:
    """The relay's admission of this sender; empty if it has not seen it yet."""
    return view.admissions.get(sender_uid(manifest)) or Admission(is_newest=False)


def _told_at(since: datetime, serving_since: datetime | None) -> datetime:
    """From when on a new sender's status says that it is pending."""
    starts = since + STARTS_IN
    if serving_since is None:
        return starts
    return min(starts, max(since, serving_since) + SETTLES_IN)


def judges_newest(view: RelayView, manifest: Manifest) -> bool:
    """Whether the view was made with this sender as it is now: a status made of an older one would
    call a spec ready that no gateway has."""
    admission = view.admissions.get(sender_uid(manifest))
    return admission is not None and admission.generation == generation_of(manifest)


def secret_to_read(view: RelayView, manifest: Manifest) -> ObjectKey | None:
    """The Secret that the sender's plan depends on, if any."""
    credential = admission_of(view, manifest).credential
    if credential is None or not credential.secret:
        return None
    return ObjectKey(kind="Secret", namespace=namespace_of(manifest), name=credential.secret)


def look(facts: SenderFacts) -> Credentials:
    """The state of the sender's Secret, and so what has to be generated or computed."""
    return find_credentials(
        facts.manifest, facts.admission.credential, facts.secret, facts.verifiers
    )


def plan_sender(facts: SenderFacts, found: Credentials, material: SenderMaterial) -> SenderPlan:
    """What to do for this sender now. `material` is what `found` requires."""
    login: SenderLogin | None = None
    if found.state is not SecretState.NONE or facts.admission.entry is None:
        login = login_of(facts.manifest, found, material, facts.verifiers, now=facts.now)
    situation = Situation(
        manifest=facts.manifest,
        model=facts.model,
        view=facts.view,
        admission=facts.admission,
        credentials=found,
        is_known=sender_uid(facts.manifest) in facts.view.known,
        fault=facts.view.faults.get(sender_uid(facts.manifest)),
        failure=_failure(facts, found),
        last_rotated=_minted_at(found),
        is_new=facts.is_new,
        now=facts.now,
    )
    return SenderPlan(
        actions=(
            *_revoked(facts, found, login),
            *_secret(facts, found, material),
            *report(situation),
        ),
        login=login if login != facts.login else None,
        look_again_at=_look_again_at(facts, found, login),
        problems=tuple(_problems(facts, found)),
    )


def _secret(facts: SenderFacts, found: Credentials, material: SenderMaterial) -> Iterator[Action]:
    """The tenant's Secret. A new password is written only when every ready replica has it; changes
    of the relay are written at once."""
    endpoint, entry = facts.view.endpoint, facts.admission.entry
    if entry is None or endpoint is None or facts.view.unusable is not None:
        return
    owner = key_of(facts.manifest)
    if found.secret is not None and found.state in (SecretState.PRESENT, SecretState.EMPTY):
        adopted = adoption(found.secret, facts.manifest)
        if adopted is not None:
            yield adopted
            return  # the rest follows once the adoption is seen
    password = found.password
    if found.wants_password:
        shown = (
            Sha256Verifier(hash=token_hash(material.password), until="")
            if material.password
            else None
        )
        if shown not in entry.verifiers or sender_uid(facts.manifest) not in facts.view.known:
            return
        password = material.password
    elif found.state is not SecretState.PRESENT:
        return
    yield Apply(
        owner=owner,
        makes=found.state is SecretState.MISSING,
        manifest=binding_secret(
            facts.manifest,
            name=found.name,
            relay=facts.view.name,
            endpoint=endpoint,
            username=entry.username,
            password=password,
            minted=rfc3339(facts.now) if found.wants_password else _minted_at(found) or "",
            revoked=revocation_mark(facts.manifest),
            read=found.secret,
        ),
    )


def _minted_at(found: Credentials) -> str | None:
    """When the password in the Secret was generated."""
    if found.secret is None or found.state is not SecretState.PRESENT:
        return None
    return annotations_of(found.secret).get(ANNOTATION_MINTED) or created_at(found.secret) or None


def _look_again_at(
    facts: SenderFacts, found: Credentials, login: SenderLogin | None
) -> datetime | None:
    """When a password ends, or when a new sender's status has to say that it is pending."""
    times = [ends_at(login.verifiers) if login is not None else None]
    if facts.since is not None and facts.is_new and found.state is not SecretState.PRESENT:
        times.append(_told_at(facts.since, facts.serving_since))
    return min((one for one in times if one is not None), default=None)


def _failure(facts: SenderFacts, found: Credentials) -> Failure | None:
    namespace = namespace_of(facts.manifest)
    return facts.failures.get(ObjectKey(kind="Secret", namespace=namespace, name=found.name))


def _revoked(
    facts: SenderFacts, found: Credentials, login: SenderLogin | None
) -> Iterator[Announce]:
    """An Event that a password ends, to explain why a workload can no longer log in."""
    if login is None or facts.admission.entry is None:
        return
    before = facts.verifiers
    if found.state is SecretState.REVOKED and login.verifiers != tuple(before):
        note = "All passwords were revoked by the annotation; a new one is being generated."
    elif (end := newly_ending(before, login.verifiers)) is not None:
        if found.state is SecretState.PRESENT or found.moved:
            note = f"The previous password ends at {rfc3339(end)}."
        elif found.not_ours is not None:
            note = (
                f"Secret {found.name} no longer belongs to this MailSender: its password ends"
                f" within"
                f" {REVOKED_WITHIN.seconds} s, at {rfc3339(end)}."
            )
        else:
            seconds = REVOKED_WITHIN.seconds
            note = (
                f"Secret {found.name} was deleted: a new password is being generated, and the old"
                f" one"
                f" ends within {seconds} s, at {rfc3339(end)}."
            )
    else:
        return
    yield Announce(
        owner=key_of(facts.manifest),
        regarding=regarding(facts.manifest),
        warning=False,
        reason=Reason.CREDENTIAL_REVOKED,
        note=note,
    )


def _problems(facts: SenderFacts, found: Credentials) -> Iterator[Complaint]:
    refused = facts.admission.refused
    if facts.view.trouble is None:
        if refused is not None:
            yield complaint(facts.manifest, refused)
        for trouble in (found.not_ours, found.trouble):
            if trouble is not None:
                yield complaint(facts.manifest, replace(trouble, path="spec.credentials"))
