"""What the engine remembers between two rounds of a key. All of it may be lost: then more is read,
minted or computed again, and nothing else happens. Bounded by the objects that exist: `forget`
drops a key's part.
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

#: Shares that were written lately and that a pod may still run: some of each of the sixteen.
MAX_VERSIONS = 128


@dataclass(slots=True)
class RelayMemory:
    """One relay's part: how its senders see it, which shares were written lately, what could not be
    written, since when gateways are on their way to the newest configuration, and its CA (None: not
    looked at yet)."""

    view: RelayView | None = None
    authority: str | None = None
    versions: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    encodings: Encodings = field(default_factory=Encodings)
    failures: dict[ObjectKey, Failure] = field(default_factory=dict)
    numbers_written_at: float = float("-inf")
    settling_since: datetime | None = None

    def note_versions(self, written: Mapping[str, Mapping[str, Any]]) -> None:
        """Remember these as the newest, and forget the oldest."""
        for digest, senders in written.items():
            self.versions.pop(digest, None)
            self.versions[digest] = senders
        while len(self.versions) > MAX_VERSIONS:
            del self.versions[next(iter(self.versions))]


@dataclass(slots=True)
class SenderMemory:
    """One sender's part, of the object with this UID: since when it is seen, how it logs in, the
    password that is minted but not shown yet, and what could not be written."""

    uid: str = ""
    since: datetime | None = None
    login: SenderLogin | None = None
    password: str = field(default="", repr=False)
    failures: dict[ObjectKey, Failure] = field(default_factory=dict)


@dataclass(slots=True)
class Memory:
    """All parts, by key."""

    relays: dict[Key, RelayMemory] = field(default_factory=dict)
    senders: dict[Key, SenderMemory] = field(default_factory=dict)

    def relay(self, key: Key) -> RelayMemory:
        """The part of this relay, begun if there is none."""
        return self.relays.setdefault(key, RelayMemory())

    def sender(self, key: Key, uid: str) -> SenderMemory:
        """The part of this sender, begun anew if its name is another object's now."""
        found = self.senders.get(key)
        if found is None or found.uid != uid:
            found = self.senders[key] = SenderMemory(uid=uid)
        return found

    def logins(self, senders: Iterable[tuple[Key, str]]) -> dict[str, SenderLogin]:
        """The logins of these senders (key and UID), as far as they are known."""
        found: dict[str, SenderLogin] = {}
        for key, uid in senders:
            part = self.senders.get(key)
            if part is not None and part.uid == uid and part.login is not None:
                found[uid] = part.login
        return found

    def forget(self, key: Key) -> None:
        """The object is gone."""
        self.relays.pop(key, None)
        self.senders.pop(key, None)
