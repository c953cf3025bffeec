"""MailDomain: a domain's DKIM keys, and the records to copy into DNS. Pure.

The operator generates the keys and the gateway signs with them; the status has the DNS records.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mailrelay_operator.api.conditions import (
    OBSERVED_GENERATION,
    Condition,
    initial_conditions,
)
from mailrelay_operator.api.grammar import Domain, ObjectName
from mailrelay_operator.api.metadata import API_VERSION, ObjectMeta, RelayRef
from mailrelay_operator.api.quantities import Duration
from mailrelay_operator.api.shape import ATOMIC, Observed, Struct, matching, rule, transition

Selector = Annotated[
    str,
    Field(min_length=1, max_length=63),
    matching(
        r"[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?",
        "A DKIM selector must be one DNS label: letters, digits and hyphens (RFC 6376 section"
        " 3.1).",
    ),
]


class DkimKey(Struct):
    """A DKIM key."""

    selector: Selector = Field(description="Selector; the record is SELECTOR._domainkey.DOMAIN.")
    algorithm: Literal["RSA2048", "Ed25519"] = Field(
        "RSA2048",
        description="RSA2048 is verified everywhere; Ed25519 (RFC 8463) by some receivers only, so"
        " use it in addition to RSA.",
    )
    secret_name: ObjectName | None = Field(
        None,
        description="Secret with the private key in tls.key. If unset, the operator generates the"
        " key.",
    )
    rotate_every: Duration | None = Field(
        None, description="How often a new key is made under a new selector. Default: never."
    )

    @rule(
        "!has(self.rotateEvery) || !has(self.secretName)",
        "Only a key that the operator generates can be rotated: remove rotateEvery or secretName.",
        field="rotateEvery",
    )
    def rotates_only_what_is_made(self) -> bool:
        """Make sure rotateEvery is not ignored."""
        return self.rotate_every is None or self.secret_name is None

    @rule(
        "!has(self.rotateEvery) || duration(self.rotateEvery) >= duration('24h')",
        "rotateEvery must be at least 24h, so that DNS can follow.",
        field="rotateEvery",
    )
    def rotates_slowly(self) -> bool:
        """Make sure a new record has propagated before the old one is removed."""
        return self.rotate_every is None or self.rotate_every.seconds >= 86_400


class Verification(Struct):
    """How DNS is checked."""

    interval: Duration = Field(
        Duration("1h"), description="How often the records are looked up; at least 1m."
    )

    @rule(
        "duration(self.interval) >= duration('1m')",
        "interval must be at least 1m.",
        field="interval",
    )
    def leaves_dns_alone(self) -> bool:
        """Make sure name servers are not flooded."""
        return self.interval.seconds >= 60


class MailDomainSpec(Struct):
    """A domain, the relay that signs for it, and its keys."""

    domain: Domain = Field(description="The domain. Immutable.")
    relay_ref: RelayRef = Field(description="The MailRelay that sends mail for the domain.")
    dkim: tuple[DkimKey, ...] = Field(
        (),
        max_length=8,
        description="DKIM keys; every message of the domain is signed with each.",
        json_schema_extra={
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["selector"],
        },
    )
    verification: Verification = Field(Verification(), description="How DNS is checked.")

    @transition(
        "self.domain == oldSelf.domain",
        "domain is immutable: create another MailDomain.",
        field="domain",
    )
    def keeps_its_domain(self, old: MailDomainSpec) -> bool:
        """Make sure a key never signs for another domain."""
        return self.domain == old.domain


class DnsRecord(Observed):
    """A record that DNS should have."""

    type: Literal["TXT", "CNAME", "MX", "A", "AAAA"] = Field(description="Type of the record.")
    name: str = Field(max_length=253, description="Name of the record, in full.")
    value: str = Field(max_length=4096, description="Value to copy into DNS.")
    purpose: Literal["SPF", "DKIM", "DMARC", "MTASTS"] = Field(
        description="What the record is for."
    )
    state: Literal["Unknown", "Found", "Missing", "Different"] = Field(
        "Unknown", description="Result of the DNS lookup."
    )


class MailDomainStatus(Observed):
    """The observed state of the domain."""

    observed_generation: int | None = Field(None, ge=0, description=OBSERVED_GENERATION)
    conditions: tuple[Condition, ...] = Field(
        default_factory=lambda: initial_conditions("MailDomain"),
        max_length=16,
        description="Accepted: the relay allows the domain. KeysReady: every key exists."
        " DNSVerified: every record was found. Ready: all of these.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
    records: tuple[DnsRecord, ...] = Field(
        (),
        max_length=32,
        description="Records to copy into DNS, and the results of their lookups.",
        json_schema_extra=ATOMIC,
    )


class MailDomain(Struct):
    """A domain that mail is sent from: its DKIM keys and the state of its DNS."""

    api_version: Literal["mailrelay.dev/v1alpha1"] = API_VERSION  # type: ignore[assignment]
    kind: Literal["MailDomain"] = "MailDomain"
    metadata: ObjectMeta
    spec: MailDomainSpec
    status: MailDomainStatus = Field(default_factory=MailDomainStatus)
