"""PURE: which events are news. An event that leaves generation, labels, annotations and
deletionTimestamp as they were (a status that we wrote ourselves, say) puts no key on the
backlog.
"""

from __future__ import annotations

import hashlib
import json

from mailrelay_operator.plan.objects import Manifest, generation_of, uid_of


class Changes:
    """Remembers a fingerprint per object that exists; for one watch each."""

    def __init__(self) -> None:
        """Know nothing: everything is news."""
        self._seen: dict[str, bytes] = {}

    def __len__(self) -> int:
        """How many objects are remembered."""
        return len(self._seen)

    def is_news(self, found: Manifest, *, deleted: bool) -> bool:
        """Whether this event says something new; remembers it. Kinds without a generation are
        told by their labels and annotations alone."""
        uid = uid_of(found)
        if deleted:
            self._seen.pop(uid, None)
            return True
        mark = _mark(found)
        news = self._seen.get(uid) != mark
        self._seen[uid] = mark
        return news


def _mark(found: Manifest) -> bytes:
    metadata = found["metadata"]
    said = [
        generation_of(found),
        metadata.get("labels") or {},
        metadata.get("annotations") or {},
        metadata.get("deletionTimestamp"),
    ]
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).digest()
