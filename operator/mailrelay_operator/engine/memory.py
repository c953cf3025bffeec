"""What the engine remembers between two rounds of a key. Losing it only costs reading, generating
or computing again. Bounded by the existing objects: `forget` drops a key's part.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from mailrelay_operator.engine.backlog import Key
from mailrelay_operator.plan.facts import Failure, ObjectKey, SenderLogin
from mailrelay_operator.plan.shares import Encodings
from mailrelay_operator.plan.view import RelayView

#: Recently written shares that a pod may still run: some of each of the sixteen.
MAX_VERSIONS = 128


@dataclass(slots=True)
class RelayMemory:
    """One relay's part: its senders' view, recently written shares, failed writes, since when a
    configuration is in transit to the gateways, the newest one and since when it is that, since
    when it has a ready pod, and the PEM of its CAs (None: not reconciled yet)."""

    view: RelayView | None = None
    trust: str | None = None
    versions: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    encodings: Encodings = field(default_factory=Encodings)
    failures: dict[ObjectKey, Failure] = field(default_factory=dict)
    numbers_written_at: float = float("-inf")
    settling_since: datetime | None = None
    serving_since: datetime | None = None
    newest_digest: str = ""
    newest_since: datetime | None = None

    def note_newest(self, digest: str, *, now: datetime) -> None:
        """This is the newest configuration; `now` counts if it was another one before."""
        if digest != self.newest_digest:
            self.newest_digest, self.newest_since = digest, now

    def note_versions(self, written: Mapping[str, Mapping[str, Any]]) -> None:
        """Store these as the newest, and drop the oldest."""
        for digest, senders in written.items():
            self.versions.pop(digest, None)
            self.versions[digest] = senders
        while len(self.versions) > MAX_VERSIONS:
            del self.versions[next(iter(self.versions))]


@dataclass(slots=True)
class SenderMemory:
    """One sender's part, for the object with this UID: when it was first seen, its login, a
    generated password that is not in the Secret yet, failed writes, and the `trust_digest` of its
    Secret (None: not read yet)."""

    uid: str = ""
    since: datetime | None = None
    login: SenderLogin | None = None
    password: str = field(default="", repr=False)
    failures: dict[ObjectKey, Failure] = field(default_factory=dict)
    trusted: str | None = None


@dataclass(slots=True)
class Memory:
    """All parts, by key."""

    relays: dict[Key, RelayMemory] = field(default_factory=dict)
    senders: dict[Key, SenderMemory] = field(default_factory=dict)

    def relay(self, key: Key) -> RelayMemory:
        """The part of this relay, created if missing."""
        return self.relays.setdefault(key, RelayMemory())

    def sender(self, key: Key, uid: str) -> SenderMemory:
        """The part of this sender, reset if the object was re-created."""
        found = self.senders.get(key)
        if found is None or found.uid != uid:
            found = self.senders[key] = SenderMemory(uid=uid)
        return found

    def logins(self, senders: Iterable[tuple[Key, str]]) -> dict[str, SenderLogin]:
        """The known logins of these senders (key and UID)."""
        found: dict[str, SenderLogin] = {}
        for key, uid in senders:
            part = self.senders.get(key)
            if part is not None and part.uid == uid and part.login is not None:
                found[uid] = part.login
        return found

    def trusted(self, senders: Iterable[tuple[Key, str]]) -> dict[str, str]:
        """What the Secrets of these senders (key and UID) are known to make clients trust."""
        found: dict[str, str] = {}
        for key, uid in senders:
            part = self.senders.get(key)
            if part is not None and part.uid == uid and part.trusted is not None:
                found[uid] = part.trusted
        return found

    def forget(self, key: Key) -> None:
        """The object is gone."""
        self.relays.pop(key, None)
        self.senders.pop(key, None)
