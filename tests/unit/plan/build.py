"""Facts for the tests of the plan: small, complete, and the same at every run."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from mailrelay_gateway.contract.status import UpstreamState, UpstreamStatus
from mailrelay_operator.api.mailrelay import MailRelay
from mailrelay_operator.engine.minting import mint, mint_password, scrypt_verifier
from mailrelay_operator.plan.actions import Apply, ApplyStatus, Create
from mailrelay_operator.plan.credentials import Credentials
from mailrelay_operator.plan.facts import (
    Absence,
    Lookup,
    ObjectKey,
    Place,
    PodFacts,
    RelayFacts,
    SeenSender,
    SenderMaterial,
)
from mailrelay_operator.plan.objects import name_of, namespace_of
from mailrelay_operator.plan.together import Together, plan_together
from mailrelay_operator.plan.verdicts import read_relay
from tests.models import made
from tests.models.manifests import mail_relay, mail_sender

Manifest = dict[str, Any]

NOW = datetime(2026, 1, 1, tzinfo=UTC)
STARTED = "2026-01-01T00:00:00Z"


class Found(dict[ObjectKey, Lookup]):
    """The objects that exist; everything else was looked for and is missing."""

    def __missing__(self, key: ObjectKey) -> Lookup:
        return Absence.MISSING


def found(objects: Iterable[Manifest]) -> Found:
    """Objects by kind, namespace and name."""
    return Found(
        {
            ObjectKey(kind=one["kind"], namespace=namespace_of(one), name=name_of(one)): one
            for one in objects
        }
    )


def relay(**spec: Any) -> Manifest:
    """The MailRelay mail/out, as it is in a cluster."""
    return mail_relay(metadata={"uid": "relay-uid", "generation": 1}, **spec)


def model(**spec: Any) -> MailRelay:
    """The same as a model."""
    read = read_relay(relay(**spec))
    assert isinstance(read, MailRelay), read
    return read


def sender(
    name: str = "app", *, namespace: str = "mail", as_: str = "*@example.com", **spec: Any
) -> Manifest:
    """A MailSender of mail/out, that wants to send `as_` this."""
    metadata = {
        "uid": f"{namespace}-{name}-uid",
        "generation": 1,
        "creationTimestamp": STARTED,
    }
    return mail_sender(name, namespace, metadata, **({"from": [as_]} | spec))


def secret(name: str, *, type_: str = "Opaque", namespace: str = "mail", **data: str) -> Manifest:
    """A Secret as in a file."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace, "uid": f"{name}-uid"},
        "type": type_,
        "stringData": data,
    }


def brought(name: str, namespace: str = "mail", **data: str) -> Manifest:
    """A login that its owner lends to mailrelay: the label says so."""
    login = secret(name, namespace=namespace, type_="kubernetes.io/basic-auth", **data)
    login["metadata"]["labels"] = {"mailrelay.dev/credentials": "true"}
    return login


def facts(
    relay_: Manifest | None = None,
    *senders: Manifest,
    objects: Iterable[Manifest] = (),
    **more: Any,
) -> RelayFacts:
    """Facts of mail/out; `more` are further fields."""
    return RelayFacts(
        namespace="mail",
        name="out",
        relay=relay() if relay_ is None else relay_,
        senders=tuple(SeenSender.of(one) for one in senders),
        objects=found(objects),
        **({"now": NOW} | more),
    )


def plan(seen: RelayFacts) -> Together:
    """The plans of relay and senders, with everything minted that they want."""

    def mint_for(_uid: str, credentials: Credentials) -> SenderMaterial:
        if credentials.wants_scrypt is not None:
            return SenderMaterial(verifier=scrypt_verifier(credentials.wants_scrypt))
        return SenderMaterial(password=mint_password())

    return plan_together(
        seen, mint=lambda asked: mint(asked, relay="mail/out", now=seen.now), mint_for=mint_for
    )


def applied(made: Together, *kinds: str) -> list[Manifest]:
    """What is created or applied, of these kinds or all."""
    return [
        action.manifest
        for action in made.actions
        if isinstance(action, Create | Apply) and (not kinds or action.target.kind in kinds)
    ]


def statuses(made: Together, kind: str) -> list[Manifest]:
    """The statuses that are written."""
    return [
        action.manifest
        for action in made.actions
        if isinstance(action, ApplyStatus) and action.target.kind == kind
    ]


def pod(ordinal: int = 0, *, digest: str | None = None, **more: Any) -> PodFacts:
    """A ready pod whose gateway runs `digest`; None: it does not answer."""
    problem = more.pop("problem", "")
    upstreams = more.pop("upstreams", ())
    status = None
    if digest is not None:
        status = made.gateway_status(
            version="0",
            digest=digest,
            files=more.pop("files", {"relay": digest}),
            started_at=STARTED,
            problem=problem,
            not_serving=more.pop("not_serving", ()),
            upstreams=upstreams,
            queue=made.queue_status(unrouted=more.pop("unrouted", 0)),
        )
    fields: dict[str, Any] = {
        "name": f"out-{ordinal}",
        "uid": f"pod-{ordinal}",
        "address": f"10.0.0.{ordinal}",
        "ready": True,
        "status": status,
        "trouble": "" if status else "no answer within 2 s",
    }
    return PodFacts(**(fields | more))


def upstream(
    name: str, state: UpstreamState, reason: str = "", message: str = ""
) -> UpstreamStatus:
    """What a gateway says of an upstream."""
    return made.upstream_status(name=name, state=state, reason=reason, message=message)


STANDALONE = Place(standalone=True)
