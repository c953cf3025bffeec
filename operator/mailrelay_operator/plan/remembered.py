"""PURE: what the operator remembers, beside the configuration, in the Secrets that hold it.

The last specs that were in force, so that a refused change changes nothing that runs while
revocations still act, and the hashes of minted passwords, so that the last two stay valid. Never a
password. The pods mount other keys only.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from mailrelay_gateway.config import MAX_UNFOLDED_OCTETS
from mailrelay_operator.plan.objects import Manifest

#: The key in the Secret.
KEY = "remembered.v1.json.gz"


@dataclass(frozen=True, slots=True, kw_only=True)
class RememberedRelay:
    """The MailRelay's spec that is in force."""

    uid: str
    generation: int
    spec: Manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class RememberedSender:
    """The MailSender's spec that is in force, and the SHA-256 (hex) of its minted password and of
    the one before."""

    uid: str
    generation: int
    spec: Manifest
    current: str = ""
    previous: str = ""


def encode_relay(relay: RememberedRelay) -> bytes:
    """The octets of KEY in the relay's Secret; equal values give equal octets."""
    return _fold({"uid": relay.uid, "generation": relay.generation, "spec": relay.spec})


def decode_relay(octets: bytes | None) -> RememberedRelay | None:
    """What `encode_relay` wrote; None for anything else: forgetting is safe, it only loses what was
    in force."""
    found = _unfold(octets)
    try:
        return RememberedRelay(
            uid=str(found["uid"]), generation=int(found["generation"]), spec=dict(found["spec"])
        )
    except (KeyError, TypeError, ValueError):
        return None


def encode_senders(senders: Iterable[RememberedSender]) -> bytes:
    """The octets of KEY in a share's Secret, by UID."""
    return _fold(
        {
            sender.uid: {
                "generation": sender.generation,
                "spec": sender.spec,
                "current": sender.current,
                "previous": sender.previous,
            }
            for sender in senders
        }
    )


def decode_senders(octets: bytes | None) -> dict[str, RememberedSender]:
    """What `encode_senders` wrote, by UID; entries that cannot be read are left out."""
    found: dict[str, RememberedSender] = {}
    for uid, entry in _unfold(octets).items():
        try:
            found[uid] = RememberedSender(
                uid=uid,
                generation=int(entry["generation"]),
                spec=dict(entry["spec"]),
                current=str(entry["current"]),
                previous=str(entry["previous"]),
            )
        except (KeyError, TypeError, ValueError):
            continue
    return found


def _fold(value: Any) -> bytes:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return gzip.compress(text.encode(), mtime=0)


def _unfold(octets: bytes | None) -> dict[str, Any]:
    if not octets:
        return {}
    try:
        text = zlib.decompressobj(wbits=31).decompress(octets, MAX_UNFOLDED_OCTETS)
        found = json.loads(text)
    except (zlib.error, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
