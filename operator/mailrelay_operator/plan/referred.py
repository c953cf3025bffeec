"""Checks references: to Secrets with credentials, and to bundles of certificates. Pure."""

from __future__ import annotations

from mailrelay_gateway.contract.pem import PemProblem
from mailrelay_operator.api.metadata import TrustRef
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
