"""The relay's side of the handshake: which MailSenders it admits, with which login, and by which
spec. Pure.

A sender's newest spec is in effect when every check passes. If one fails, its entry in the
configuration stays, as far as the relay still admits it: a mistake does not affect what runs, while
revoked permissions end at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from mailrelay_gateway.contract import documents
from mailrelay_operator.api.admission import AllowedSenders
from mailrelay_operator.api.mailsender import MailSender
from mailrelay_operator.api.names import minted_username
from mailrelay_operator.api.reasons import Reason
from mailrelay_operator.plan.facts import RelayFacts, SeenSender
from mailrelay_operator.plan.objects import (
    Manifest,
    created_at,
    generation_of,
    is_being_deleted,
    name_of,
    namespace_of,
    uid_of,
)
from mailrelay_operator.plan.status import sender_status_of
from mailrelay_operator.plan.verdicts import Trouble
from mailrelay_operator.plan.view import Admission, Credential


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One MailSender to be included in the configuration. `written` is its entry as last
    written."""

    seen: SeenSender
    admission: Admission
    written: documents.Sender | None = None

    @property
    def uid(self) -> str:
        """The sender's UID; standalone, its name, which is equally unique."""
        return sender_uid(self.seen.manifest)

    def refused(self, trouble: Trouble) -> Candidate:
        """The same candidate, refused."""
        out = replace(self.admission, entry=None, refused=self.admission.refused or trouble)
        return replace(self, admission=out)


def sender_uid(manifest: Manifest) -> str:
    """The UID; standalone, NAMESPACE/NAME."""
    return uid_of(manifest) or f"{namespace_of(manifest)}/{name_of(manifest)}"


def admit(
    facts: RelayFacts,
    *,
    allowed: Sequence[Sequence[AllowedSenders]],
    written: Mapping[str, documents.Sender],
) -> tuple[Candidate, ...]:
    """The candidates of all senders, oldest first. `allowed` are the relay's allowedSenders, all of
    which must admit a sender (of the spec in effect and the newest readable one); `written` are the
    senders in the configuration as last written, by UID."""
    candidates = [
        _candidate(facts, one, allowed, written.get(sender_uid(one.manifest)))
        for one in sorted(facts.senders, key=_age)
        if not is_being_deleted(one.manifest)
    ]
    return _without_taken_usernames(candidates)


def why_not_admitted(
    facts: RelayFacts,
    namespace: str,
    claimed: Iterable[str],
    allowed: Sequence[Sequence[AllowedSenders]],
) -> Trouble | None:
    """Why senders of this namespace may not send as all of `claimed`, or None."""
    claimed = tuple(claimed)
    found = (_why_not(facts, namespace, claimed, entries) for entries in allowed)
    return next((trouble for trouble in found if trouble is not None), None)


def pattern_covers(pattern: str, claimed: str) -> bool:
    """Whether `pattern` (`a@b`, `*@b` or `*`) covers every address that `claimed` (`a@b` or `*@b`)
    does.

    Domains are case-insensitive (RFC 5321 section 2.4), local parts case-sensitive.
    """
    if pattern == "*":
        return True
    local, _, domain = pattern.rpartition("@")
    claimed_local, _, claimed_domain = claimed.rpartition("@")
    return domain.lower() == claimed_domain.lower() and local in ("*", claimed_local)


def _age(one: SeenSender) -> tuple[str, str, str]:
    """Sort key: age, which decides between two claims, then the name for those of the same
    second."""
    return created_at(one.manifest), namespace_of(one.manifest), name_of(one.manifest)


def _candidate(
    facts: RelayFacts,
    seen: SeenSender,
    allowed: Sequence[Sequence[AllowedSenders]],
    written: documents.Sender | None,
) -> Candidate:
    namespace = namespace_of(seen.manifest)
    model = seen.model
    refused = (
        model
        if isinstance(model, Trouble)
        else why_not_admitted(facts, namespace, model.spec.from_, allowed)
    )
    if isinstance(model, MailSender) and refused is None:
        admission = Admission(
            credential=_credential(model),
            entry=_entry(facts, seen, model, written),
            generation=generation_of(seen.manifest),
        )
        return Candidate(seen=seen, admission=admission, written=written)
    admission = Admission(refused=refused, is_newest=False, generation=generation_of(seen.manifest))
    if (
        written is not None
        and why_not_admitted(facts, namespace, written.addresses, allowed) is None
    ):
        login = facts.logins.get(written.uid)
        verifiers = written.verifiers if login is None else login.verifiers
        # Suspension removes a permission: it takes effect although the rest is refused.
        suspend = written.suspend or (isinstance(model, MailSender) and model.spec.suspend)
        kept = written.model_copy(update={"verifiers": verifiers, "suspend": suspend})
        admission = replace(
            admission,
            credential=_credential_in_force(seen, written),
            entry=kept if verifiers else None,
        )
    return Candidate(seen=seen, admission=admission, written=written)


def _credential(model: MailSender) -> Credential | None:
    credentials = model.spec.credentials
    if credentials is None:
        return None  # already refused as Unsupported: tokens are not supported yet
    if credentials.existing_secret_ref is not None:
        return Credential(secret=credentials.existing_secret_ref.name, minted=False)
    return Credential(secret=credentials.secret_name or "", minted=True)


def _credential_in_force(seen: SeenSender, written: documents.Sender) -> Credential | None:
    """The Secret of a sender whose newest spec is refused, as named in its status."""
    secret = sender_status_of(seen.manifest).secret_name
    minted = any(isinstance(one, documents.Sha256Verifier) for one in written.verifiers)
    return Credential(secret=secret, minted=minted) if secret else None


def _entry(
    facts: RelayFacts, seen: SeenSender, model: MailSender, written: documents.Sender | None
) -> documents.Sender | None:
    """Its entry for the gateways; None while it has no login. If its Secret has not been read yet
    (the operator has just started), it keeps the login that it had."""
    uid = sender_uid(seen.manifest)
    login = facts.logins.get(uid)
    if login is not None:
        username, verifiers = login.username, login.verifiers
    elif written is not None:
        username, verifiers = written.username, written.verifiers
    else:
        return None
    if not verifiers:
        return None
    return documents.Sender(
        uid=uid,
        namespace=namespace_of(seen.manifest),
        name=name_of(seen.manifest),
        username=username,
        verifiers=verifiers,
        addresses=tuple(model.spec.from_),
        suspend=model.spec.suspend,
        bulk=model.spec.class_ == "Bulk",
    )


def _why_not(
    facts: RelayFacts, namespace: str, claimed: Sequence[str], allowed: Sequence[AllowedSenders]
) -> Trouble | None:
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
            path="spec.relayRef",
            message=f"{relay} admits no MailSender of namespace {namespace}: its owner can add the"
            " namespace to allowedSenders, or label it so that their selector matches.",
        )
    given = [pattern for entry in admitting for pattern in entry.effective_addresses]
    beyond = {
        number: one
        for number, one in enumerate(claimed)
        if not any(pattern_covers(pattern, one) for pattern in given)
    }
    if beyond:
        return Trouble(
            reason=Reason.ADDRESS_NOT_ALLOWED,
            path=f"spec.from[{next(iter(beyond))}]",
            message=f"from: {', '.join(list(beyond.values())[:10])}"
            f" {'is' if len(beyond) == 1 else 'are'} not among the addresses that {relay} allows"
            f" namespace {namespace} ({', '.join(given[:10])}).",
        )
    return None


def _without_taken_usernames(candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """Usernames are unique: generated ones always belong to their sender, of existing ones the
    oldest sender keeps it."""
    owner: dict[str, str] = {}
    for one in candidates:
        credential, manifest = one.admission.credential, one.seen.manifest
        if credential is not None and credential.minted:
            owner[minted_username(namespace_of(manifest), name_of(manifest))] = one.uid
    kept: list[Candidate] = []
    for one in candidates:
        entry = one.admission.entry
        if entry is None or owner.setdefault(entry.username, one.uid) == one.uid:
            kept.append(one)
            continue
        secret = one.admission.credential.secret if one.admission.credential else ""
        trouble = Trouble(
            reason=Reason.USERNAME_TAKEN,
            message=f"The username {entry.username} is used by another MailSender of this relay:"
            f" choose another in Secret {entry.namespace}/{secret}.",
        )
        kept.append(one.refused(trouble))
    return tuple(kept)
