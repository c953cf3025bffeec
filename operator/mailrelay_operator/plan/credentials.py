"""The state of a MailSender's Secret, and its consequences for the login: which passwords are
valid, and until when. Pure.

Rotation: the new password becomes valid, then it is written to the Secret, then the old one ends:
within REVOKED_WITHIN of the Secret's deletion, which revokes a leaked password, and within
REPLACED_WITHIN of a move to a Secret of another name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum

from mailrelay_gateway.contract.documents import ScryptVerifier, Sha256Verifier, Verifier
from mailrelay_gateway.contract.moments import parse_rfc3339, rfc3339
from mailrelay_operator.api.names import (
    ANNOTATION_ADOPT,
    ANNOTATION_REVOKE,
    SECRET_TYPE_BINDING,
    minted_username,
    username_is_anothers,
)
from mailrelay_operator.api.reasons import Reason
from mailrelay_operator.plan.facts import Absence, Lookup, ScryptWanted, SenderLogin, SenderMaterial
from mailrelay_operator.plan.gateway_config import token_hash
from mailrelay_operator.plan.objects import (
    Manifest,
    annotations_of,
    controller_of,
    name_of,
    namespace_of,
    secret_data,
)
from mailrelay_operator.plan.ownership import is_child, is_ours
from mailrelay_operator.plan.referred import absent
from mailrelay_operator.plan.resolving import login_in
from mailrelay_operator.plan.status import sender_status_of
from mailrelay_operator.plan.verdicts import Trouble
from mailrelay_operator.plan.view import Credential

#: How long a password is valid after its Secret was deleted.
REVOKED_WITHIN = timedelta(seconds=60)
#: How long after any other replacement, so that workloads can be rolled out with the new one.
REPLACED_WITHIN = timedelta(minutes=10)
#: A generated password has 43 characters; a shorter one in the Secret was put there by hand, and
#: SHA-256 is too weak for those.
SHORTEST_MINTED = 43
#: RFC 4954 has no limit of its own; RFC 4616's authcid is at most 255 octets.
LONGEST_LOGIN = 255
#: Maximum number of old passwords that are valid in addition to the newest.
MAX_OLD = 3


class SecretState(Enum):
    """The state of a sender's Secret."""

    NONE = "none"  # no credential is in effect
    BROUGHT = "brought"  # the tenant's own: read, never written
    MISSING = "missing"
    EMPTY = "empty"  # the operator's, without contents: to be filled
    PRESENT = "present"
    REVOKED = "revoked"  # the operator's, with a password that the annotation revokes
    UNUSABLE = "unusable"  # unreadable, not the operator's, or without a generated password


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """The state of the credentials. `trouble` is what is wrong, `not_ours` that the object or the
    username belongs to someone else, `moved` that another Secret was in effect before, `password`
    the one in the Secret."""

    state: SecretState
    name: str = ""
    secret: Manifest | None = None
    trouble: Trouble | None = None
    not_ours: Trouble | None = None
    moved: bool = False
    password: str = field(default="", repr=False)
    username: str = ""
    wants_scrypt: ScryptWanted | None = None

    @property
    def wants_password(self) -> bool:
        """Whether a new password has to be generated."""
        return self.state in (SecretState.MISSING, SecretState.EMPTY, SecretState.REVOKED)


def find_credentials(
    sender: Manifest, credential: Credential | None, found: Lookup, before: Sequence[Verifier]
) -> Credentials:
    """Examine the Secret in effect. `before` are the verifiers known so far."""
    if credential is None:
        return Credentials(state=SecretState.NONE)
    if credential.minted:
        return _find_minted(sender, credential.secret, found)
    return _find_brought(sender, credential.secret, found, before)


def login_of(
    sender: Manifest,
    found: Credentials,
    material: SenderMaterial,
    before: Sequence[Verifier],
    *,
    now: datetime,
) -> SenderLogin | None:
    """The sender's login from now on; None: unchanged, since the Secret's state is unknown."""
    if found.state is SecretState.NONE:
        return SenderLogin()
    if found.state is SecretState.BROUGHT:
        if found.not_ours is not None:
            return SenderLogin()
        if found.trouble is not None:
            # Unreadable does not mean deleted: the known verifiers stay.
            unreadable = found.trouble.reason is Reason.FORBIDDEN
            return None if unreadable else SenderLogin()
        if material.verifier is None:
            return None
        return SenderLogin(username=found.username, verifiers=(material.verifier,))
    username = minted_username(namespace_of(sender), name_of(sender))
    known = [one for one in before if isinstance(one, Sha256Verifier)]
    match found.state:
        case SecretState.PRESENT:
            current, grace = found.password, REPLACED_WITHIN
        case SecretState.REVOKED:
            current, grace = material.password, timedelta(0)
        case SecretState.MISSING | SecretState.EMPTY:
            current = material.password
            grace = REPLACED_WITHIN if found.moved else REVOKED_WITHIN
        case _ if found.not_ours is not None:
            # The operator's Secret is gone, whatever this one is: its password ends as after a
            # deletion.
            ending = _ending(known, now + REVOKED_WITHIN)
            return SenderLogin(username=username, verifiers=_unexpired(ending, now))
        case _:
            return SenderLogin(username=username, verifiers=_unexpired(known, now))
    newest = Sha256Verifier(hash=token_hash(current), until="")
    old = _ending([one for one in known if one.hash != newest.hash], now + grace)
    return SenderLogin(username=username, verifiers=(newest, *_unexpired(old, now)[:MAX_OLD]))


def ends_at(verifiers: Sequence[Verifier]) -> datetime | None:
    """When the next of these ends; None if none does."""
    ends = [
        parse_rfc3339(one.until)
        for one in verifiers
        if isinstance(one, Sha256Verifier) and one.until
    ]
    return min((one for one in ends if one is not None), default=None)


def newly_ending(before: Sequence[Verifier], after: Sequence[Verifier]) -> datetime | None:
    """When those end that had no end before; None if there are none."""
    endless = {one.hash for one in before if isinstance(one, Sha256Verifier) and not one.until}
    ending = [one for one in after if isinstance(one, Sha256Verifier) and one.until]
    return ends_at([one for one in ending if one.hash in endless])


def revocation_mark(sender: Manifest) -> str:
    """The value of the annotation that revokes all passwords, once for each new value."""
    return annotations_of(sender).get(ANNOTATION_REVOKE, "")


def _ending(verifiers: Sequence[Sha256Verifier], end: datetime) -> list[Sha256Verifier]:
    """The same verifiers; those without an end get this one."""
    return [
        one if one.until else one.model_copy(update={"until": rfc3339(end)}) for one in verifiers
    ]


def _unexpired(verifiers: Sequence[Sha256Verifier], now: datetime) -> tuple[Sha256Verifier, ...]:
    ends = [(one, parse_rfc3339(one.until) if one.until else None) for one in verifiers]
    return tuple(one for one, end in ends if end is None or end > now)


def _find_minted(sender: Manifest, name: str, found: Lookup) -> Credentials:
    what = f"Secret {namespace_of(sender)}/{name}"
    if found is Absence.FORBIDDEN:
        return Credentials(state=SecretState.UNUSABLE, name=name, trouble=absent(found, what))
    if isinstance(found, Absence):
        was = sender_status_of(sender).secret_name
        return Credentials(state=SecretState.MISSING, name=name, moved=bool(was) and was != name)
    if found.get("type") != SECRET_TYPE_BINDING or not _is_same(found, sender):
        return Credentials(
            state=SecretState.UNUSABLE, name=name, not_ours=_not_ours(found, sender, what)
        )
    data = secret_data(found)
    if not data:
        return Credentials(state=SecretState.EMPTY, name=name, secret=found)
    password = data.get("password", b"").decode(errors="replace")
    if len(password) < SHORTEST_MINTED:
        trouble = Trouble(
            reason=Reason.SECRET_INVALID,
            message=f"{what} no longer contains the generated password. Delete the Secret to have a"
            " new password generated; the old one ends with it.",
        )
        return Credentials(state=SecretState.UNUSABLE, name=name, secret=found, trouble=trouble)
    mark = revocation_mark(sender)
    revoked = mark and annotations_of(found).get(ANNOTATION_REVOKE) != mark
    return Credentials(
        state=SecretState.REVOKED if revoked else SecretState.PRESENT,
        name=name,
        secret=found,
        password=password,
    )


def _is_same(found: Manifest, sender: Manifest) -> bool:
    """Whether the Secret was written for exactly this MailSender, or its owner adopts it. Name and
    labels are no proof: a MailSender that is deleted to revoke a leaked password and re-created
    must not get that password from a Secret that the garbage collector has not removed yet."""
    if is_child(found, sender):
        return True
    return annotations_of(sender).get(ANNOTATION_ADOPT) == "true" and is_ours(found, sender)


def _not_ours(found: Manifest, sender: Manifest, what: str) -> Trouble:
    controller = controller_of(found) or {}
    if is_ours(found, sender) and controller.get("name") == name_of(sender):
        return Trouble(
            reason=Reason.NOT_OWNED,
            message=f"{what} was written for a deleted MailSender of this name. It is replaced once"
            " the garbage collector has removed it; to keep its password, set the"
            f' annotation {ANNOTATION_ADOPT}: "true" on this MailSender.',
        )
    return Trouble(
        reason=Reason.NOT_OWNED,
        message=f"{what} exists and was not written for this MailSender, so it is not changed: set"
        " credentials.secretName to another name.",
    )


def _find_brought(
    sender: Manifest, name: str, found: Lookup, before: Sequence[Verifier]
) -> Credentials:
    """The login in a tenant's existing Secret."""
    what = f"Secret {namespace_of(sender)}/{name}"
    state = SecretState.BROUGHT
    if isinstance(found, Absence):
        return Credentials(state=state, name=name, trouble=absent(found, what))
    login = login_in(found, what=what)
    if isinstance(login, Trouble):
        return Credentials(state=state, name=name, trouble=login)
    for key, text in (("username", login.username), ("password", login.password)):
        if len(text.encode()) > LONGEST_LOGIN:
            trouble = Trouble(
                reason=Reason.SECRET_INVALID,
                message=f"{what} has a {key} longer than {LONGEST_LOGIN} octets; shorten it.",
            )
            return Credentials(state=state, name=name, trouble=trouble)
    if username_is_anothers(login.username, namespace_of(sender)):
        reserved = Trouble(
            reason=Reason.USERNAME_RESERVED,
            message=f"{what} has the username {login.username}, whose form is reserved for"
            f" MailSenders of namespace {login.username.partition('.')[0]}: choose one without a"
            " dot, or with an @.",
        )
        return Credentials(state=state, name=name, not_ours=reserved)
    return Credentials(
        state=state,
        name=name,
        secret=found,
        username=login.username,
        wants_scrypt=ScryptWanted(
            password=login.password.encode(),
            known=tuple(one for one in before if isinstance(one, ScryptVerifier)),
        ),
    )
