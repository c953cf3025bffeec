"""Checks references: to Secrets with credentials, and to bundles of certificates. Pure."""

from __future__ import annotations

from mailrelay_gateway.contract.pem import PemProblem
from mailrelay_operator.api.metadata import SecretKeyRef, TrustRef
from mailrelay_operator.api.names import LABEL_CREDENTIALS
from mailrelay_operator.api.reasons import Reason
from mailrelay_operator.plan.certificates import given_bundle
from mailrelay_operator.plan.facts import Absence, RelayFacts
from mailrelay_operator.plan.objects import Manifest, config_map_data, labels_of, secret_data
from mailrelay_operator.plan.verdicts import Trouble


def absent(absence: Absence, what: str, *, kind: str = "Secret") -> Trouble:
    """The trouble with a reference whose object is absent."""
    missing = Reason.CONFIG_MAP_NOT_FOUND if kind == "ConfigMap" else Reason.SECRET_NOT_FOUND
    if absence is Absence.MISSING:
        return Trouble(reason=missing, message=f"{what} does not exist; create it.")
    return Trouble(
        reason=Reason.FORBIDDEN,
        message=f"The operator may not read {what}: it needs a Role in that namespace (the chart's"
        " watchNamespaces).",
    )


def unmarked(secret: Manifest, what: str) -> Trouble | None:
    """The trouble with a Secret that its owner has not marked as credentials; `what` names it."""
    # The type alone would let any Git credential of the namespace be sent to any smarthost.
    if labels_of(secret).get(LABEL_CREDENTIALS) == "true":
        return None
    return Trouble(
        reason=Reason.SECRET_NOT_PERMITTED,
        message=f"{what} is not marked as credentials for mailrelay: add the label"
        f' {LABEL_CREDENTIALS}: "true".',
    )


def trusted_bundle(facts: RelayFacts, reference: TrustRef, *, of: str) -> str | Trouble:
    """The certificates (PEM) in a Secret or ConfigMap of the relay's namespace; `of` names their
    user in messages."""
    what = f"{reference.kind} {facts.namespace}/{reference.name} of {of}"
    found = facts.find(reference.kind, facts.namespace, reference.name)
    if isinstance(found, Absence):
        return absent(found, what, kind=reference.kind)
    secret = reference.kind == "Secret"
    octets = (secret_data(found) if secret else config_map_data(found)).get(reference.key)
    if octets is None:
        return Trouble(
            reason=Reason.SECRET_INVALID if secret else Reason.CONFIG_MAP_INVALID,
            message=f"{what} has no key {reference.key}.",
        )
    try:
        text = octets.decode(errors="replace")
        return given_bundle(text, field=reference.key, now=facts.now)
    except PemProblem as problem:
        return Trouble(reason=Reason.CERTIFICATE_INVALID, message=f"{what} {problem}.")


def audience_trouble(facts: RelayFacts, name: str, audience: str) -> Trouble | None:
    """The trouble with the audience of a token that the upstream `name` needs."""
    allowed = facts.place.token_audiences
    if facts.place.standalone or audience in allowed:
        return None
    return Trouble(
        reason=Reason.AUDIENCE_NOT_ALLOWED,
        message=f"Upstream {name} uses a ServiceAccount token with the audience {audience}, but the"
        f" platform allows {', '.join(allowed) or 'none'}: add it to tokenAudiences of the chart.",
    )


def secret_text(facts: RelayFacts, name: str, reference: SecretKeyRef | None) -> str | Trouble:
    """The text of a key of a Secret that is marked as credentials; "" without a reference.

    White space around it is stripped: `echo secret | base64` adds a newline.
    """
    if reference is None:
        return ""
    what = secret_of(facts, name, reference)
    found = facts.find("Secret", facts.namespace, reference.name)
    if isinstance(found, Absence):
        return absent(found, what)
    trouble = unmarked(found, what)
    if trouble is not None:
        return trouble
    try:
        text = secret_data(found).get(reference.key, b"").decode().strip()
    except UnicodeDecodeError:
        text = ""
    if not text or "\0" in text:
        return Trouble(
            reason=Reason.SECRET_INVALID,
            message=f"{what} has no valid key {reference.key}; it needs one with UTF-8 text.",
        )
    return text


def secret_of(facts: RelayFacts, name: str, reference: SecretKeyRef) -> str:
    """A Secret of an upstream, as it is named in messages."""
    return f"Secret {facts.namespace}/{reference.name} of upstream {name}"
