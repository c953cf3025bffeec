"""The configuration that a relay's gateways should run: documents, files, digest. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mailrelay_gateway.contract.documents import RelayDocument, RelayReference
from mailrelay_gateway.contract.files import (
    MAX_FILE_OCTETS,
    RELAY_FILE,
    encode,
    file_digest,
    share_name,
    total_digest,
)
from mailrelay_operator.plan.facts import RelayFacts
from mailrelay_operator.plan.gateway_config import relay_document
from mailrelay_operator.plan.objects import uid_of
from mailrelay_operator.plan.shares import Share
from mailrelay_operator.plan.survey import Survey, needs_own_certificate


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """The configuration of the gateways."""

    document: RelayDocument
    shares: tuple[Share, ...]
    files: Mapping[str, bytes]
    file_digests: Mapping[str, str]
    digest: str


def replicas_of(facts: RelayFacts, found: Survey) -> int:
    """spec.replicas, but never fewer than exist: each queue may hold mail, and draining is not
    supported yet."""
    if found.in_force is None or facts.place.standalone:
        return 1
    return max(found.in_force.spec.replicas, found.running)


def configure(
    facts: RelayFacts, found: Survey, shares: tuple[Share, ...], replicas: int
) -> Configuration | None:
    """The configuration of the gateways; None while a part of it is missing."""
    in_force = found.in_force
    if in_force is None or not found.admin_token_sha256:
        return None
    if needs_own_certificate(in_force.spec) and found.leaf is None:
        return None
    document = relay_document(
        in_force.spec,
        relay=RelayReference(
            namespace=facts.namespace,
            name=facts.name,
            uid=uid_of(found.relay),
            generation=in_force.generation,
        ),
        resolved=in_force.resolved,
        own_certificate=found.leaf,
        admin_token_sha256=found.admin_token_sha256,
        replicas=replicas,
        namespaces=facts.namespaces,
        place=facts.place,
    )
    files = {RELAY_FILE: encode(document)}
    files |= {share_name(one.number): one.file for one in shares if one.file is not None}
    if len(files[RELAY_FILE]) > MAX_FILE_OCTETS:
        return None
    digests = {name: file_digest(name, octets) for name, octets in files.items()}
    return Configuration(
        document=document,
        shares=shares,
        files=files,
        file_digests=digests,
        digest=total_digest(digests),
    )
