"""The operator's own record in the Secret of the configuration: the MailRelay's last spec in
effect, so that a refused change does not affect what runs. Pure.

The record of a sender is its entry in its share. The pods do not mount this key.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mailrelay_gateway.contract.files import MAX_UNFOLDED_OCTETS
from mailrelay_operator.plan.objects import Manifest

#: The key in the Secret.
KEY = "remembered.v1.json.gz"
#: The relay's own CA among the authorities, which otherwise have listeners' names.
OWN_AUTHORITY = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RememberedRelay:
    """The MailRelay's spec in effect. `authorities` are the CAs (PEM) provided with the
    certificates of its listeners, by the listener's name; gateways do not need them."""

    uid: str
    generation: int
    spec: Manifest
    authorities: Mapping[str, str] = field(default_factory=dict)


def encode_relay(relay: RememberedRelay) -> bytes:
    """The octets of KEY in the relay's Secret; the encoding is deterministic."""
    return _fold(
        {
            "uid": relay.uid,
            "generation": relay.generation,
            "spec": relay.spec,
            "authorities": dict(relay.authorities),
        }
    )


def decode_relay(octets: bytes | None) -> RememberedRelay | None:
    """The value that `encode_relay` wrote; None for anything else, which is safe: only the spec in
    effect is lost."""
    found = _unfold(octets)
    try:
        return RememberedRelay(
            uid=str(found["uid"]),
            generation=int(found["generation"]),
            spec=dict(found["spec"]),
            authorities={str(k): str(v) for k, v in dict(found.get("authorities") or {}).items()},
        )
    except (KeyError, TypeError, ValueError):
        return None


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
