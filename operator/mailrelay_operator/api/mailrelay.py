"""MailRelay: its spec and status, for the platform team. Pure.

The spec as a whole, the rules across its parts, and the status. The parts have modules of their
own.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Literal

from pydantic import Field

from mailrelay_operator.api.admission import (
    DEFAULT_ALLOWED_SENDERS,
    Admin,
    AllowedSenders,
    ServiceAccountTokens,
)
from mailrelay_operator.api.conditions import (
    GENERATION_IN_FORCE,
    OBSERVED_GENERATION,
    Condition,
    Endpoint,
    initial_conditions,
)
from mailrelay_operator.api.content import Recipients, Rewrite, Suppression
from mailrelay_operator.api.grammar import Domain, Flag, Image
from mailrelay_operator.api.limits import Limits
from mailrelay_operator.api.listeners import DEFAULT_LISTENERS, Listener
from mailrelay_operator.api.metadata import API_VERSION, ObjectMeta
from mailrelay_operator.api.names import MAX_RELAY_NAME, RELAY_NAME
from mailrelay_operator.api.quantities import Duration, Quantity
from mailrelay_operator.api.shape import ATOMIC, NAMED, Observed, Struct, are_distinct, rule
from mailrelay_operator.api.storage import DEFAULT_QUEUE, SPARE_SIZE, Queue
from mailrelay_operator.api.surroundings import NetworkPolicy, Resolver, Service, Template, Webhook
from mailrelay_operator.api.upstreams import Route, Upstream

assert MAX_RELAY_NAME == 45, "the rule and its sentence below name it"


class Retry(Struct):
    """How long and how often delivery is retried."""

    give_up_after: Duration = Field(
        Duration("120h"),
        description="How long delivery is retried before the message is returned to its sender; at"
        " most 744h. Time lost to an upstream's own fault does not count. RFC 5321 section"
        " 4.5.4.1 recommends four to five days.",
    )
    max_interval: Duration = Field(
        Duration("1h"),
        description="Upper bound of the exponential backoff between attempts (with jitter).",
    )
    warn_after: Duration = Field(
        Duration("4h"),
        description="How long delivery is retried before the sender is told that the message is"
        " delayed, once; 0s: never. Time lost to an upstream's own fault does not count. A sender"
        " can ask otherwise for each recipient (NOTIFY, RFC 3461).",
    )

    @rule(
        "duration(self.giveUpAfter) >= duration('1s') && duration(self.giveUpAfter) <="
        " duration('744h')",
        "giveUpAfter must be from 1s to 744h (31 days).",
        field="giveUpAfter",
    )
    def gives_up_in_a_month(self) -> bool:
        """Make sure the age of queued mail is bounded."""
        return 1 <= self.give_up_after.seconds <= 744 * 3600

    @rule(
        "duration(self.warnAfter) >= duration('0s') && duration(self.warnAfter) <="
        " duration('744h')",
        "warnAfter must be from 0s (never) to 744h.",
        field="warnAfter",
    )
    def warns_in_a_month(self) -> bool:
        """Make sure it is a time that comes, or none."""
        return 0 <= self.warn_after.seconds <= 744 * 3600

    @rule(
        "duration(self.maxInterval) >= duration('1s') && duration(self.maxInterval) <="
        " duration(self.giveUpAfter)",
        "maxInterval must be from 1s to giveUpAfter.",
        field="maxInterval",
    )
    def pauses_within_its_time(self) -> bool:
        """Make sure there is a second attempt."""
        return 1 <= self.max_interval.seconds <= self.give_up_after.seconds


class MailRelaySpec(Struct):
    """The desired state of a relay."""

    replicas: int = Field(
        1,
        strict=True,
        ge=1,
        le=100,
        description="Number of gateway pods, each with a queue of its own.",
    )
    hostname: Domain = Field(
        description="Name that the relay uses in its greeting, EHLO and Received: a fully qualified"
        " domain name; for direct delivery, the name in the reverse DNS of the address that"
        " mail is sent from."
    )
    suspend: Flag = Field(
        False, description="Accept mail but deliver none: it stays queued until this is false."
    )
    listeners: tuple[Listener, ...] = Field(
        DEFAULT_LISTENERS,
        min_length=1,
        max_length=16,
        description="Ports that accept mail. Default: `submission`, port 587, StartTLS,"
        " authentication Required.",
        json_schema_extra=NAMED,
    )
    service_account_tokens: ServiceAccountTokens | None = Field(
        None, description="Let pods log in with a ServiceAccount token. Default: off."
    )
    allowed_senders: tuple[AllowedSenders, ...] = Field(
        DEFAULT_ALLOWED_SENDERS,
        max_length=16,
        description="Which namespaces may send as which addresses; a MailSender is admitted if any"
        " entry matches. Default: the relay's own namespace, as any address.",
        json_schema_extra=NAMED,
    )
    upstreams: tuple[Upstream, ...] = Field(
        min_length=1,
        max_length=32,
        description="Where mail is sent, in fail-over order unless routes say otherwise.",
        json_schema_extra=NAMED,
    )
    routes: tuple[Route, ...] = Field(
        (),
        max_length=64,
        description="Which mail is sent through which upstreams; the first match wins. Default: all"
        " upstreams in order. Mail that matches no route is refused with 4xx, never delivered"
        " in another way.",
        json_schema_extra=ATOMIC,
    )
    recipients: Recipients = Field(Recipients(), description="Recipients that mail may be sent to.")
    rewrite: Rewrite = Field(Rewrite(), description="Changes to every message.")
    limits: Limits = Field(Limits(), description="Limits of message size, recipients and rates.")
    retry: Retry = Field(Retry(), description="How long and how often delivery is retried.")
    queue: Queue = Field(DEFAULT_QUEUE, description="Where messages are queued.")
    service: Service = Field(
        Service(), description="The Service through which clients reach the relay."
    )
    image: Image | None = Field(
        None,
        description="Image of the gateway, to upgrade this relay before or after the others. It"
        " must come from a repository that the chart allows (gateway.image,"
        " gateway.allowedRepositories). Default: the operator's gateway image.",
    )
    admin: Admin = Field(Admin(), description="Who may use the queue API.")
    template: Template = Field(Template(), description="Settings of the gateway's pods.")
    webhooks: tuple[Webhook, ...] = Field(
        (),
        max_length=8,
        description="Endpoints that message events are reported to.",
        json_schema_extra=NAMED,
    )
    suppression: Suppression = Field(Suppression(), description="Recipients that are refused.")
    resolver: Resolver = Field(Resolver(), description="DNS resolver settings.")
    network_policy: NetworkPolicy = Field(
        NetworkPolicy(), description="The NetworkPolicy of the gateway's pods."
    )

    @rule(
        """self.listeners.all(one, self.listeners.exists_one(other,
        (one.port < 1024 ? one.port + 10000 : one.port)
        == (other.port < 1024 ? other.port + 10000 : other.port)))""",
        "Two listeners have the same port, or the same port in the pod (below 1024 it is 10000 +"
        " port).",
        field="listeners",
    )
    def has_distinct_pod_ports(self) -> bool:
        """Make sure each listener can bind its port."""
        return max(Counter(listener.pod_port for listener in self.listeners).values()) == 1

    @rule(
        "self.service.type == 'ClusterIP' || self.listeners.all(one, one.authentication.mode =="
        " 'Required')",
        "A Service of type LoadBalancer or NodePort hides who connects, so every listener needs"
        " authentication.mode Required.",
        field="listeners",
    )
    def authenticates_strangers(self) -> bool:
        """Make sure source addresses are not trusted behind address translation: a classic open
        relay.
        """
        required = all(listener.authentication.mode == "Required" for listener in self.listeners)
        return self.service.type == "ClusterIP" or required

    @rule(
        "!has(self.routes) || self.routes.all(one, self.routes.exists_one(other, other.name =="
        " one.name))",
        "Two routes have the same name.",
        field="routes",
    )
    def has_distinct_routes(self) -> bool:
        """Make sure a message about a route is unambiguous."""
        return are_distinct(route.name for route in self.routes)

    @rule(
        f"""(has(self.queue.storage) ? quantity(self.queue.storage.size) : has(self.queue.ephemeral)
        ? quantity(self.queue.ephemeral.size) : quantity('1Ti')).compareTo(
        quantity(self.limits.message.maxSize).add(quantity('{SPARE_SIZE}'))) >= 0""",
        f"The queue cannot hold the largest message: its size must be at least"
        f" limits.message.maxSize plus {SPARE_SIZE}.",
        field="queue",
    )
    def can_hold_its_largest_message(self) -> bool:
        """Make sure that mail can be accepted at all: with too small a volume even an empty queue
        answers 452.
        """
        if self.queue.size is None:
            return True
        least = self.limits.message.max_size.octets + Quantity(SPARE_SIZE).octets
        return self.queue.size.octets >= least

    @rule(
        """!has(self.routes) || self.routes.all(route, route.upstreams.all(named,
        self.upstreams.exists(upstream, upstream.name == named.name)))""",
        "A route names an upstream that does not exist in upstreams.",
        field="routes",
    )
    def routes_to_its_own_upstreams(self) -> bool:
        """Make sure every route leads to an upstream."""
        names = {upstream.name for upstream in self.upstreams}
        return all(named.name in names for route in self.routes for named in route.upstreams)


class StatusAddress(Observed):
    """An address of the relay."""

    type: Literal["Hostname", "IPAddress"] = Field("Hostname", description="Type of the address.")
    value: str = Field(min_length=1, max_length=253, description="The address.")


class ListenerStatus(Observed):
    """The observed state of a listener."""

    name: str = Field(max_length=15, description="Name of the listener.")
    attached_senders: int = Field(0, ge=0, description="Number of MailSenders that may use it.")


class QueueStatus(Observed):
    """The queues of all replicas together; updated at most once a minute."""

    messages: int = Field(0, ge=0, description="Number of queued messages.")
    oldest: str | None = Field(
        None,
        max_length=64,
        description="When the oldest message was accepted.",
        json_schema_extra={"format": "date-time"},
    )


class MailRelayStatus(Observed):
    """The observed state of the relay."""

    observed_generation: int | None = Field(None, ge=0, description=OBSERVED_GENERATION)
    generation_in_force: int | None = Field(None, ge=0, description=GENERATION_IN_FORCE)
    conditions: tuple[Condition, ...] = Field(
        default_factory=lambda: initial_conditions("MailRelay"),
        max_length=16,
        description="Accepted: the spec is valid and in effect. ResolvedRefs: all references"
        " are resolved. Programmed: every replica runs it. Durable: the"
        " queue survives its pod. UpstreamReachable: mail can be sent. Ready:"
        " Accepted, ResolvedRefs, Programmed, and at least one ready replica.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
    ready: str = Field(
        "",
        max_length=16,
        description="Ready and desired gateway pods, such as 2/3.",
    )
    endpoint: Endpoint | None = Field(
        None,
        description="Where clients in the cluster log in. Unset: no listener accepts logins.",
    )
    addresses: tuple[StatusAddress, ...] = Field(
        (),
        max_length=16,
        description="Addresses of the relay: the Service's name in the cluster and, with a load"
        " balancer, the addresses assigned to it.",
        json_schema_extra=ATOMIC,
    )
    listeners: tuple[ListenerStatus, ...] = Field(
        (), max_length=16, description="State of each listener.", json_schema_extra=NAMED
    )
    attached_senders: int = Field(0, ge=0, description="Number of admitted MailSenders.")
    replicas: int = Field(0, ge=0, description="Number of gateway pods.")
    ready_replicas: int = Field(0, ge=0, description="Number of ready gateway pods.")
    selector: str = Field(
        "", max_length=253, description="Label selector of the pods, for the scale subresource."
    )
    queue: QueueStatus = Field(QueueStatus(), description="Queued messages.")
    config_digest: str = Field(
        "", max_length=64, description="Digest of the configuration that replicas should run."
    )


class MailRelay(Struct):
    """An outbound mail gateway: accepts mail from workloads, stores it durably and relays it."""

    api_version: Literal["mailrelay.dev/v1alpha1"] = API_VERSION  # type: ignore[assignment]
    kind: Literal["MailRelay"] = "MailRelay"
    metadata: ObjectMeta
    spec: MailRelaySpec
    status: MailRelayStatus = Field(default_factory=MailRelayStatus)

    @rule(
        f"self.metadata.name.matches(r'^{RELAY_NAME}$') && size(self.metadata.name) <= 45",
        "A MailRelay's name has at most 45 lower-case letters, digits and hyphens, and starts with"
        " a letter: the names of its Services and pods derive from it.",
        field="metadata.name",
    )
    def has_a_name_for_services(self) -> bool:
        """Make sure every derived name is valid (RFC 1035 section 2.3.1)."""
        return is_relay_name(self.metadata.name)


def is_relay_name(name: str) -> bool:
    """Whether a MailRelay may have this name."""
    return len(name) <= MAX_RELAY_NAME and re.fullmatch(RELAY_NAME, name) is not None
