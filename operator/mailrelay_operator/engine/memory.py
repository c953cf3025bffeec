"""What the engine remembers between two rounds of a relay. All of it may be lost: then more is
read, minted or applied again, and nothing else happens. Bounded by the objects of the relays
that exist: `forget` drops a relay's part.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from mailrelay_gateway.config import ScryptVerifier
from mailrelay_operator.engine.backlog import Key
from mailrelay_operator.plan.facts import ObjectKey, ScryptWanted
from mailrelay_operator.plan.objects import Manifest, name_of, namespace_of, version_of

#: Fingerprints of passwords are keyed, so that a core dump holds nothing to look up.
_FINGERPRINT_KEY = secrets.token_bytes(32)


@dataclass(slots=True)
class RelayMemory:
    """One relay's part.

    `passwords` are minted but not yet shown to their tenants; `verifiers` fit the password with the
    fingerprint beside them; `applied` says with which contents and at which version an object was
    last applied; `watched` holds the versions of what the relay refers to, as the last round saw
    them; `namespaces` are those of its senders. `settling_since`: see RelayFacts.
    """

    passwords: dict[str, str] = field(default_factory=dict, repr=False)
    verifiers: dict[str, tuple[bytes, ScryptVerifier]] = field(default_factory=dict, repr=False)
    applied: dict[ObjectKey, tuple[bytes, str]] = field(default_factory=dict)
    watched: dict[ObjectKey, str] = field(default_factory=dict)
    namespaces: frozenset[str] = frozenset()
    numbers_written_at: float = float("-inf")
    settling_since: datetime | None = None

    def fitting_verifiers(self, wanted: Mapping[str, ScryptWanted]) -> dict[str, ScryptVerifier]:
        """Those of the remembered verifiers whose password is still the same."""
        found: dict[str, ScryptVerifier] = {}
        for uid, one in wanted.items():
            mark, verifier = self.verifiers.get(uid, (b"", None))
            if verifier is not None and hmac.compare_digest(mark, _fingerprint(one.password)):
                found[uid] = verifier
        return found

    def keep_verifiers(
        self, wanted: Mapping[str, ScryptWanted], made: Mapping[str, ScryptVerifier]
    ) -> None:
        """Remember exactly the verifiers that are wanted now."""
        self.verifiers = {
            uid: (_fingerprint(one.password), made[uid])
            for uid, one in wanted.items()
            if uid in made
        }

    def is_applied(self, manifest: Manifest, found: Manifest | None) -> bool:
        """Whether this very manifest was applied, and the object has not changed since."""
        if found is None:
            return False
        return self.applied.get(key_of(manifest)) == (_contents(manifest), version_of(found))

    def note_applied(self, manifest: Manifest, result: Manifest) -> None:
        """Remember what was applied, and the version that came of it."""
        self.applied[key_of(manifest)] = (_contents(manifest), version_of(result))


@dataclass(slots=True)
class Memory:
    """All relays' parts."""

    relays: dict[Key, RelayMemory] = field(default_factory=dict)

    def of(self, key: Key) -> RelayMemory:
        """The part of this relay, begun if there is none."""
        return self.relays.setdefault(key, RelayMemory())

    def forget(self, key: Key) -> None:
        """The relay is gone."""
        self.relays.pop(key, None)

    def relays_with_senders_in(self, namespace: str) -> Iterator[Key]:
        """Whom a change of this namespace's labels may concern."""
        for key, part in self.relays.items():
            if namespace in part.namespaces:
                yield key


def key_of(manifest: Manifest) -> ObjectKey:
    """Kind, namespace and name of an object."""
    return ObjectKey(
        kind=str(manifest["kind"]), namespace=namespace_of(manifest), name=name_of(manifest)
    )


def _contents(manifest: Manifest) -> bytes:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).digest()


def _fingerprint(password: bytes) -> bytes:
    return hmac.digest(_FINGERPRINT_KEY, password, "sha256")
