"""The gateway's Service, pods, NetworkPolicy, resolver and webhooks. Pure.

Shapes only. The pod template is an allow list: what the gateway's guarantees depend on (its user,
volumes and containers) has no field.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mailrelay_operator.api.grammar import (
    Cidr,
    Domain,
    Flag,
    Host,
    HttpsUrl,
    IpAddress,
    Label,
    LabelKey,
    LabelValue,
    ObjectName,
    Port,
    is_annotation_key,
)
from mailrelay_operator.api.metadata import LabelSelector, NamedRef
from mailrelay_operator.api.quantities import Duration
from mailrelay_operator.api.shape import (
    ATOMIC,
    DISTINCT,
    NAMED,
    Struct,
    are_distinct,
    beyond_cel,
    matching,
    rule,
    transition,
)

#: The user of the gateway's image: not root, and fixed, so that the spool stays readable.
DEFAULT_USER = 10001

AnnotationValue = Annotated[str, Field(max_length=4096)]

ResourceAmount = Annotated[
    str,
    Field(min_length=1, max_length=18),
    matching(
        r"[0-9]{1,12}([.][0-9]{1,3})?(m|k|M|G|T|Ki|Mi|Gi|Ti)?",
        "Write an amount as in 250m, 2 or 512Mi.",
    ),
]


class Service(Struct):
    """The Service through which clients reach the relay."""

    type: Literal["ClusterIP", "NodePort", "LoadBalancer"] = Field(
        "ClusterIP",
        description="Type of the Service. With access from outside the cluster every listener needs"
        " authentication.",
    )
    annotations: dict[str, AnnotationValue] = Field(
        default_factory=dict,
        max_length=32,
        description="Annotations of the Service, such as a load balancer's.",
    )
    hostname: Domain | None = Field(
        None,
        description="Name that resolves to the Service and that the certificates are valid for;"
        " MailSenders get it as host. Default: the Service's own name in the"
        " cluster.",
    )
    load_balancer_class: LabelKey | None = Field(
        None,
        description="Class of the load balancer; for LoadBalancer only. Default: the cluster's"
        " default. Immutable while the type is LoadBalancer.",
    )
    source_ranges: tuple[Cidr, ...] = Field(
        (),
        max_length=64,
        description="Networks that the load balancer admits, if it supports this; for LoadBalancer"
        " only. Default: all.",
        json_schema_extra=DISTINCT,
    )
    external_traffic_policy: Literal["Cluster", "Local"] | None = Field(
        None,
        description="Local: connections from outside stay on the node where they arrive and keep"
        " their source address. For LoadBalancer and NodePort. Default: Cluster.",
    )
    ip_families: tuple[Literal["IPv4", "IPv6"], ...] = Field(
        (),
        max_length=2,
        description="IP families of the Service; the first is immutable. Both need a dual-stack"
        " cluster. Default: the cluster's default.",
        json_schema_extra=ATOMIC,
    )

    @rule(
        "self.type == 'LoadBalancer' || (!has(self.loadBalancerClass) && (!has(self.sourceRanges)"
        " || size(self.sourceRanges) == 0))",
        "loadBalancerClass and sourceRanges are for type LoadBalancer only: set service.type to"
        " LoadBalancer, or remove them.",
        field="type",
    )
    def has_a_load_balancers_fields_only_as_one(self) -> bool:
        """Make sure that a list of networks is not mistaken for a restriction in force."""
        return self.type == "LoadBalancer" or not (self.load_balancer_class or self.source_ranges)

    @rule(
        "self.type != 'ClusterIP' || !has(self.externalTrafficPolicy)",
        "externalTrafficPolicy is not for type ClusterIP: remove it.",
        field="externalTrafficPolicy",
    )
    def has_a_policy_only_for_outside(self) -> bool:
        """Make sure the API server accepts the Service."""
        return self.type != "ClusterIP" or self.external_traffic_policy is None

    @rule(
        "!has(self.ipFamilies) || size(self.ipFamilies) < 2 || self.ipFamilies[0] !="
        " self.ipFamilies[1]",
        "The two families are the same: remove one.",
        field="ipFamilies",
    )
    def has_distinct_families(self) -> bool:
        """Make sure the API server accepts the Service."""
        return are_distinct(self.ip_families)

    @transition(
        """self.type != 'LoadBalancer' || oldSelf.type != 'LoadBalancer'
        || (has(self.loadBalancerClass) ? self.loadBalancerClass : '')
        == (has(oldSelf.loadBalancerClass) ? oldSelf.loadBalancerClass : '')""",
        "loadBalancerClass is immutable: set service.type to ClusterIP first.",
        field="loadBalancerClass",
    )
    def keeps_its_load_balancer_class(self, old: Service) -> bool:
        """Make sure the API server accepts the Service."""
        both = self.type == old.type == "LoadBalancer"
        return not both or self.load_balancer_class == old.load_balancer_class

    @beyond_cel("Write an annotation key as in team or example.com/team.", field="annotations")
    def has_keys_that_annotations_can_have(self) -> bool:
        """Make sure the API server accepts the Service."""
        return all(is_annotation_key(key) for key in self.annotations)


class NetworkClient(Struct):
    """Who may connect; all criteria given must match."""

    name: Label = Field(
        description="Name of the entry; the list is merged by it in server-side apply."
    )
    namespace_selector: LabelSelector | None = Field(
        None, description="Labels of the pods' namespaces."
    )
    pod_selector: LabelSelector | None = Field(None, description="Labels of the pods.")
    cidr: Cidr | None = Field(None, description="A network; with neither of the others.")

    @rule(
        "has(self.cidr) != (has(self.namespaceSelector) || has(self.podSelector))",
        "Set either cidr or selectors.",
    )
    def is_network_or_selectors(self) -> bool:
        """Make sure it can be expressed in a NetworkPolicy."""
        return (self.cidr is not None) != bool(self.namespace_selector or self.pod_selector)


class NetworkPolicy(Struct):
    """The NetworkPolicy of the gateway's pods."""

    mode: Literal["Managed", "None"] = Field(
        "Managed",
        description="Managed: the operator maintains a NetworkPolicy for the pods. None: it"
        " does not.",
    )
    clients: tuple[NetworkClient, ...] = Field(
        (),
        max_length=32,
        description="Who may connect to the listeners. Default: everyone.",
        json_schema_extra=NAMED,
    )


class Nameserver(Struct):
    """A DNS server."""

    address: IpAddress = Field(description="IP address of the server.")
    port: Port = Field(53, description="Port of the server, UDP and TCP.")


class Resolver(Struct):
    """How the gateway resolves names of upstreams and mail exchangers."""

    servers: tuple[Nameserver, ...] = Field(
        (),
        max_length=3,
        description="DNS servers, in order of preference. Default: the pod's.",
        json_schema_extra=ATOMIC,
    )
    timeout: Duration = Field(Duration("5s"), description="Total timeout of one lookup.")
    validating: Flag = Field(
        False,
        description="The servers validate DNSSEC, and the network path to them is trusted. Required"
        " for DANE.",
    )


class Webhook(Struct):
    """An endpoint that message events are reported to."""

    name: Label = Field(description="Name of the webhook.")
    url: HttpsUrl = Field(description="URL that receives a POST with a JSON list of events.")
    events: tuple[Literal["Accepted", "Delivered", "Deferred", "Failed", "GaveUp"], ...] = Field(
        ("Failed", "GaveUp"),
        max_length=5,
        description="Events to report.",
        json_schema_extra=DISTINCT,
    )
    secret_ref: NamedRef | None = Field(
        None,
        description="Secret whose key `secret` signs the requests (HMAC-SHA-256). Default:"
        " unsigned.",
    )


class Resources(Struct):
    """CPU and memory of the gateway's container."""

    requests: dict[str, ResourceAmount] = Field(
        default_factory=dict,
        max_length=8,
        description="Requests, such as cpu: 100m, memory: 128Mi.",
    )
    limits: dict[str, ResourceAmount] = Field(
        default_factory=dict, max_length=8, description="Limits."
    )


class Toleration(Struct):
    """A taint that the pods tolerate, as in a pod."""

    key: LabelKey | None = Field(None, description="Key of the taint. Default: all keys.")
    operator: Literal["Equal", "Exists"] = Field("Equal", description="How the value is compared.")
    value: LabelValue | None = Field(None, description="Value of the taint.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        None, description="Effect of the taint. Default: all effects."
    )
    toleration_seconds: int | None = Field(
        None,
        strict=True,
        ge=0,
        le=86_400,
        description="How long a NoExecute taint is tolerated. Default: forever.",
    )


class TopologySpread(Struct):
    """A topology spread constraint; its label selector is the relay's own."""

    max_skew: int = Field(
        1, strict=True, ge=1, le=100, description="Maximum skew between topology domains."
    )
    topology_key: LabelKey = Field(
        description="Node label to spread over, such as topology.kubernetes.io/zone."
    )
    when_unsatisfiable: Literal["DoNotSchedule", "ScheduleAnyway"] = Field(
        "ScheduleAnyway", description="What happens when the constraint cannot be met."
    )


class HostAlias(Struct):
    """Host names of an address, for the gateway's pods only."""

    ip: IpAddress = Field(description="The address.")
    hostnames: tuple[Host, ...] = Field(
        min_length=1,
        max_length=16,
        description="Host names of the address.",
        json_schema_extra=ATOMIC,
    )


class Template(Struct):
    """Settings of the gateway's pods."""

    labels: dict[str, LabelValue] = Field(
        default_factory=dict,
        max_length=32,
        description="Labels of the pods, in addition to the operator's.",
    )
    annotations: dict[str, AnnotationValue] = Field(
        default_factory=dict,
        max_length=32,
        description="Annotations of the pods, such as a service mesh's.",
    )
    resources: Resources = Field(
        Resources(), description="CPU and memory of the gateway's container."
    )
    node_selector: dict[str, LabelValue] = Field(
        default_factory=dict,
        max_length=16,
        description="Labels of the nodes that the pods may run on.",
    )
    tolerations: tuple[Toleration, ...] = Field(
        (), max_length=16, description="Taints that the pods tolerate.", json_schema_extra=ATOMIC
    )
    topology_spread_constraints: tuple[TopologySpread, ...] = Field(
        (), max_length=8, description="How the pods are spread.", json_schema_extra=ATOMIC
    )
    priority_class_name: ObjectName | None = Field(None, description="PriorityClass of the pods.")
    image_pull_secrets: tuple[NamedRef, ...] = Field(
        (),
        max_length=8,
        description="Secrets for pulling the image.",
        json_schema_extra=NAMED,
    )
    host_aliases: tuple[HostAlias, ...] = Field(
        (),
        max_length=16,
        description="Host names that the gateway resolves without DNS.",
        json_schema_extra=ATOMIC,
    )
