"""The directory of senders and the addresses they may send as, compiled when a configuration is
loaded. Pure.

Addresses match case-insensitively, both domain and local part: RFC 5321 allows a host to
distinguish `Bob` from `bob`, but no provider does, and such a refusal would be surprising.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mailrelay_gateway.contract.documents import Sender, Verifier
from mailrelay_gateway.message.envelope import Identity
from mailrelay_gateway.smtp.idn import a_labels


class AddressMatcher:
    """The addresses in a MailSender's `from`: `a@b`, `*@b` (any local part of exactly that domain)
    and `*` (any).
    """

    __slots__ = ("_addresses", "_any", "_domains")

    def __init__(self, patterns: Iterable[str]) -> None:
        """Compile the patterns; domains beyond ASCII are compared as A-labels (RFC 5890)."""
        addresses, domains = set(), set()
        self._any = False
        for pattern in patterns:
            local, at, domain = pattern.rpartition("@")
            if pattern == "*":
                self._any = True
            elif at and local == "*":
                domains.add(_a_label(domain))
            elif at:
                addresses.add(f"{local.lower()}@{_a_label(domain)}")
        self._addresses = frozenset(addresses)
        self._domains = frozenset(domains)

    def matches(self, address: str) -> bool:
        """Whether `address` (not the null sender) is one of them."""
        if self._any:
            return True
        domain = address[address.rfind("@") + 1 :].lower()
        if domain in self._domains:
            return True
        # A letter beyond ASCII is no other one, though it may become one in lower case: the Kelvin
        # sign a "k".
        return address.isascii() and address.lower() in self._addresses


def _a_label(domain: str) -> str:
    return a_labels(domain.lower()) or domain  # which cannot match any address


@dataclass(frozen=True, slots=True, kw_only=True)
class SenderEntry:
    """A MailSender, compiled for the gateway."""

    identity: Identity
    verifiers: tuple[Verifier, ...]
    addresses: AddressMatcher
    suspended: bool
    bulk: bool  # the class of its mail: Bulk, else Transactional


@dataclass(frozen=True, slots=True, kw_only=True)
class Directory:
    """All senders of a configuration, by username and by UID."""

    by_username: Mapping[str, SenderEntry]
    by_uid: Mapping[str, SenderEntry]


def compile_directory(senders: Iterable[Sender]) -> Directory:
    """The directory of the senders of a configuration."""
    entries = [
        SenderEntry(
            identity=Identity(
                namespace=sender.namespace,
                name=sender.name,
                uid=sender.uid,
                username=sender.username,
            ),
            verifiers=sender.verifiers,
            addresses=AddressMatcher(sender.addresses),
            suspended=sender.suspend,
            bulk=sender.bulk,
        )
        for sender in senders
    ]
    return Directory(
        by_username={entry.identity.username: entry for entry in entries},
        by_uid={entry.identity.uid: entry for entry in entries},
    )
