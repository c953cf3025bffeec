"""Chooses the upstreams for a recipient's mail, in fail-over order. Pure.

Compiled once per configuration. Without routes all mail takes all upstreams in order; with routes
the first match decides, and mail that matches none waits. Upstreams that are too small for the
message are left out (`sizes`).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, product

from mailrelay_gateway.contract import documents
from mailrelay_gateway.contract.documents import RelayDocument
from mailrelay_gateway.message.envelope import POSTMASTER
from mailrelay_gateway.message.route import Route, Sketch
from mailrelay_gateway.policy.sizes import all_fitting, bounds, fitting
from mailrelay_gateway.smtp.idn import a_labels

#: Of mail that matches no route: it waits until the configuration has a route for it.
UNROUTED = Route(())


class DomainMatcher:
    """Domain patterns: `example.com` is that domain only, `*.example.com` all below it."""

    __slots__ = ("_domains", "_parents")

    def __init__(self, patterns: Iterable[str]) -> None:
        """Compile the patterns. An internationalized domain matches in both forms (RFC 5890)."""
        domains: set[str] = set()
        parents: set[str] = set()
        for pattern in patterns:
            parent = pattern.startswith("*.")
            for form in _forms(pattern.removeprefix("*.")):
                (parents if parent else domains).add(form)
        self._domains = frozenset(domains)
        self._parents = frozenset(parents)

    def matches(self, domain: str) -> bool:
        """Whether a pattern matches `domain`; case-insensitive."""
        domain = domain.lower()
        if domain in self._domains:
            return True
        if self._parents:
            dot = domain.find(".")
            while dot >= 0:
                if domain[dot + 1 :] in self._parents:
                    return True
                dot = domain.find(".", dot + 1)
        return False


def _forms(domain: str) -> set[str]:
    domain = domain.lower()
    return {domain, a_labels(domain) or domain}


@dataclass(frozen=True, slots=True)
class _Group:
    """Adjacent upstreams of a route that share the mail by weight, or a single one."""

    orders: tuple[tuple[str, ...], ...]  # one for each of them as the first
    shares: tuple[float, ...]  # upper bounds, in [0, 1), of each one's share


class _Rule:
    """A route of the configuration, compiled."""

    __slots__ = ("_groups", "_namespaces", "_recipients", "_routes", "_senders", "matches_all")

    def __init__(self, rule: documents.Route, configured: frozenset[str]) -> None:
        match = rule.match
        self._senders = DomainMatcher(match.sender_domains) if match.sender_domains else None
        self._recipients = (
            DomainMatcher(match.recipient_domains) if match.recipient_domains else None
        )
        self._namespaces = None if match.namespaces is None else frozenset(match.namespaces)
        self.matches_all = (
            self._senders is None and self._recipients is None and self._namespaces is None
        )
        present = [each for each in rule.upstreams if each.name in configured]
        self._groups = _groups(present)
        self._routes: Mapping[tuple[int, ...], Route] = {
            firsts: Route(
                tuple(
                    name
                    for group, first in zip(self._groups, firsts, strict=True)
                    for name in group.orders[first]
                )
            )
            for firsts in product(*(range(len(group.orders)) for group in self._groups))
        }

    @property
    def routes(self) -> Iterable[Route]:
        """Every order of its upstreams that it can choose."""
        return self._routes.values()

    def matches(self, sender: str, recipient: str, namespace: str | None) -> bool:
        """Whether it is for such mail; `namespace` None matches any."""
        if (
            self._namespaces is not None
            and namespace is not None
            and namespace not in self._namespaces
        ):
            return False
        if self._senders is not None:
            # A notice takes the route of the mail that it is about: its recipient is that sender.
            address = sender or recipient
            if not self._senders.matches(address[address.rfind("@") + 1 :]):
                return False
        return self._recipients is None or self._recipients.matches(
            recipient[recipient.rfind("@") + 1 :]
        )

    def route(self, queue_id: str) -> Route:
        """The order for a message: the same at each attempt and for all its recipients."""
        if len(self._routes) == 1:
            return next(iter(self._routes.values()))
        firsts = []
        for number, group in enumerate(self._groups):
            point = zlib.crc32(f"{queue_id}/{number}".encode()) / 2**32
            firsts.append(sum(point >= share for share in group.shares))
        return self._routes[tuple(firsts)]


def _groups(upstreams: Sequence[documents.RouteUpstream]) -> tuple[_Group, ...]:
    groups: list[_Group] = []
    for weighted, some in groupby(upstreams, key=lambda each: each.weight is not None):
        if not weighted:
            groups += [_Group(((each.name,),), ()) for each in some]
            continue
        members = list(some)
        names = [each.name for each in members]
        total = sum(each.weight or 0 for each in members)
        shares, sum_so_far = [], 0
        for each in members[:-1]:
            sum_so_far += each.weight or 0
            shares.append(sum_so_far / total)
        orders = tuple((first, *[name for name in names if name != first]) for first in names)
        groups.append(_Group(orders, tuple(shares)))
    return tuple(groups)


class Routing:
    """Chooses recipients' routes in one configuration."""

    __slots__ = ("_most", "_rules", "all", "only")

    def __init__(self, relay: RelayDocument) -> None:
        """Compile the relay's routes. Upstreams that are not configured (their login is missing)
        are left out; a route without any left still matches, and its mail waits.
        """
        names = tuple(upstream.name for upstream in relay.upstreams)
        configured = frozenset(names)
        if relay.routes:
            self._rules = [_Rule(rule, configured) for rule in relay.routes]
        else:
            everything = documents.Route(
                name="",
                match=documents.RouteMatch(
                    sender_domains=(), recipient_domains=(), namespaces=None
                ),
                upstreams=tuple(documents.RouteUpstream(name=name, weight=None) for name in names),
            )
            self._rules = [_Rule(everything, configured)]
        routes = {route for rule in self._rules for route in rule.routes}
        if not any(rule.matches_all for rule in self._rules):
            routes.add(UNROUTED)
        self._most = bounds(relay)
        #: Every route that this configuration can choose.
        self.all = all_fitting(routes, self._most)
        #: The route of all mail, if there is only one.
        self.only = next(iter(self.all)) if len(self.all) == 1 else None

    @property
    def takes_all(self) -> bool:
        """Whether all mail has a route."""
        return any(rule.matches_all for rule in self._rules)

    def takes(self, sender: str, recipient: str, namespace: str) -> bool:
        """Whether a route matches mail of this envelope sender and namespace to the recipient."""
        return any(rule.matches(sender, recipient, namespace) for rule in self._rules)

    def choose(self, sketch: Sketch) -> Route:
        """The route for a recipient; UNROUTED if none matches."""
        identity = sketch.identity
        namespaces: list[str | None] = [identity.namespace]
        if identity == POSTMASTER:
            namespaces.append(None)  # a notice rather takes some tenant's route than none
        for namespace in namespaces:
            for rule in self._rules:
                if rule.matches(sketch.sender, sketch.address, namespace):
                    return fitting(rule.route(sketch.queue_id), sketch.size, self._most)
        return UNROUTED


def routes_differ(before: RelayDocument | None, after: RelayDocument) -> bool:
    """Whether queued mail may have another route than `before` (None: unknown, at startup)."""
    if before is None:
        return bool(after.routes)
    return (
        before.routes != after.routes
        or [one.name for one in before.upstreams] != [one.name for one in after.upstreams]
        or bounds(before) != bounds(after)
    )


def changed_upstreams(before: RelayDocument | None, after: RelayDocument) -> list[str]:
    """The upstreams whose target or login has changed: what is known about them under the same name
    is obsolete.
    """
    if before is None:
        return []
    known = {u.name: u.settings for u in before.upstreams}
    return [u.name for u in after.upstreams if u.name in known and known[u.name] != u.settings]
