"""What all kinds share: object metadata, references, selectors. Pure.

A reference stays in its namespace unless it has a field `namespace`. Unknown fields of metadata
are ignored: the API server adds fields there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import ConfigDict, Field

from mailrelay_operator.api.grammar import (
    LabelKey,
    LabelValue,
    NamespaceName,
    ObjectName,
    SecretKey,
    is_label_key,
)
from mailrelay_operator.api.shape import ATOMIC, Struct, beyond_cel, rule

GROUP = "mailrelay.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
CATEGORY = "mail"


class ObjectMeta(Struct):
    """The metadata that the operator reads; the rest is ignored."""

    model_config = ConfigDict(extra="ignore")

    name: str = Field(min_length=1, max_length=253)
    namespace: str = Field("default", min_length=1, max_length=63)
    uid: str = ""
    generation: int = 0
    resource_version: str = ""
    creation_timestamp: str = ""
    deletion_timestamp: str = ""
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)


class NamedRef(Struct):
    """A reference to an object in this namespace by name."""

    name: ObjectName = Field(description="Name of the object, in this namespace.")


class SecretKeyRef(Struct):
    """A reference to one key of a Secret of this namespace."""

    name: ObjectName = Field(description="Name of the Secret, in this namespace.")
    key: SecretKey = Field(
        description="Key in the Secret; white space around its value is ignored."
    )


class TrustRef(Struct):
    """A reference to a Secret or ConfigMap of this namespace that holds certificates."""

    kind: Literal["Secret", "ConfigMap"] = Field(
        "Secret", description="Kind of the object: Secret or ConfigMap."
    )
    name: ObjectName = Field(description="Name of the object, in this namespace.")
    key: SecretKey = Field(
        "ca.crt", description="Key in the object that holds one or more PEM certificates."
    )


class RelayRef(Struct):
    """A reference to a MailRelay, possibly in another namespace: that relay decides whom it
    admits.
    """

    name: ObjectName = Field(description="Name of the MailRelay.")
    namespace: NamespaceName | None = Field(
        None, description="Namespace of the MailRelay. Default: the namespace of this object."
    )

    def is_changed_from(self, old: RelayRef) -> bool:
        """Whether this surely names another MailRelay. Adding the object's own namespace is no
        change, and a rule cannot know that namespace.
        """
        moved = None not in (self.namespace, old.namespace) and self.namespace != old.namespace
        return self.name != old.name or moved


class LabelRequirement(Struct):
    """One requirement of a selector."""

    key: LabelKey = Field(description="The label's key.")
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"] = Field(
        description="How the label's value is compared with `values`."
    )
    values: tuple[LabelValue, ...] = Field(
        (),
        max_length=24,
        description="Values for In and NotIn; none for the others.",
        json_schema_extra=ATOMIC,
    )

    @rule(
        "(self.operator in ['In', 'NotIn']) == (has(self.values) && size(self.values) > 0)",
        "In and NotIn need values; Exists and DoesNotExist take none.",
    )
    def has_values_for_its_operator(self) -> bool:
        """Make sure the values fit the operator."""
        return (self.operator in {"In", "NotIn"}) == bool(self.values)

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether these labels meet the requirement, as Kubernetes' label selectors do."""
        match self.operator:
            case "In":
                return labels.get(self.key) in self.values
            case "NotIn":
                return self.key not in labels or labels[self.key] not in self.values
            case "Exists":
                return self.key in labels
            case "DoesNotExist":
                return self.key not in labels


class LabelSelector(Struct):
    """A Kubernetes label selector, but never empty: an empty one would silently match
    everything.
    """

    match_labels: dict[str, LabelValue] = Field(
        default_factory=dict,
        max_length=16,
        description="Labels that must be present with exactly these values.",
    )
    match_expressions: tuple[LabelRequirement, ...] = Field(
        (),
        max_length=16,
        description="Requirements that must all be met.",
        json_schema_extra=ATOMIC,
    )

    @rule(
        "(has(self.matchLabels) && size(self.matchLabels) > 0)"
        " || (has(self.matchExpressions) && size(self.matchExpressions) > 0)",
        "An empty selector would match every namespace: set matchLabels or matchExpressions.",
    )
    def selects_something(self) -> bool:
        """Make sure a forgotten selector does not admit every namespace."""
        return bool(self.match_labels or self.match_expressions)

    @beyond_cel("Write a label key as in team or example.com/team.", field="matchLabels")
    def has_keys_that_labels_can_have(self) -> bool:
        """Make sure the API server accepts a NetworkPolicy with this selector."""
        return all(is_label_key(key) for key in self.match_labels)

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether an object with these labels is selected."""
        return all(labels.get(key) == value for key, value in self.match_labels.items()) and all(
            requirement.matches(labels) for requirement in self.match_expressions
        )


class ServiceAccountRef(Struct):
    """A ServiceAccount anywhere in the cluster."""

    namespace: NamespaceName = Field(description="Namespace of the ServiceAccount.")
    name: ObjectName = Field(description="Name of the ServiceAccount.")
