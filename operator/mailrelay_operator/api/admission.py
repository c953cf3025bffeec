"""Who may send as what: which namespaces a relay admits, and which addresses it gives them. Pure.

The relay's side of the handshake; the sender's side is MailSender.spec.relayRef and from.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from mailrelay_operator.api.grammar import AddressPattern, Label
from mailrelay_operator.api.metadata import LabelSelector, ServiceAccountRef
from mailrelay_operator.api.shape import DISTINCT, Struct, rule


class SenderNamespaces(Struct):
    """A selection of namespaces."""

    # `from_` is `from` in the API, a keyword in Python.
    from_: Literal["Same", "All", "Selector"] = Field(
        "Same",
        description="Same: the relay's own namespace. All: every namespace. Selector: those"
        " whose labels match.",
    )
    selector: LabelSelector | None = Field(
        None, description="Labels of the namespaces; for Selector only."
    )

    @rule(
        "(self.from == 'Selector') == has(self.selector)",
        "selector is required with from: Selector, and allowed only with it.",
        field="from",
    )
    def has_a_selector_if_it_selects(self) -> bool:
        """Make sure a selector is neither missing nor ignored."""
        return (self.from_ == "Selector") == (self.selector is not None)

    def admit(self, *, namespace: str, labels: Mapping[str, str], relay_namespace: str) -> bool:
        """Whether a namespace with these labels is selected."""
        if self.from_ == "Selector":
            return self.selector is not None and self.selector.matches(labels)
        return self.from_ == "All" or namespace == relay_namespace


class AllowedSenders(Struct):
    """Namespaces that may send, and the addresses that they may send as."""

    name: Label = Field(
        description="Name of the entry; the list is merged by it in server-side apply."
    )
    namespaces: SenderNamespaces = Field(SenderNamespaces(), description="Which namespaces.")
    addresses: tuple[AddressPattern, ...] = Field(
        (),
        max_length=128,
        description="Addresses that a MailSender of these namespaces may claim in its from:"
        " billing@example.com, *@example.com, or * for any. Default (with Same only): any.",
        json_schema_extra=DISTINCT,
    )

    @rule(
        "self.namespaces.from == 'Same' || (has(self.addresses) && size(self.addresses) > 0)",
        'addresses is required when other namespaces may send: list them, or "*" for any.',
        field="addresses",
    )
    def names_addresses_for_other_namespaces(self) -> bool:
        """Make sure a forgotten line does not give another team every address of the company."""
        return self.namespaces.from_ == "Same" or bool(self.addresses)

    @property
    def effective_addresses(self) -> tuple[str, ...]:
        """The addresses as given, or `*`."""
        return self.addresses or ("*",)


#: The default of allowedSenders: the relay's own namespace, with any address.
DEFAULT_ALLOWED_SENDERS = (AllowedSenders(name="own-namespace"),)


class ServiceAccountTokens(Struct):
    """Pods may log in with a projected ServiceAccount token instead of a password. No settings
    yet.
    """


class Admin(Struct):
    """Who may use the queue API."""

    service_accounts: tuple[ServiceAccountRef, ...] = Field(
        (),
        max_length=32,
        description="ServiceAccounts whose tokens the admin port accepts for its queue API.",
        json_schema_extra={
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["namespace", "name"],
        },
    )
