"""The succession of a relay's private CAs: a new one is in every `ca.crt` for 30 days before it
issues a certificate, and the old one stays there until it expires. Pure.

    current ──(end - NEXT_MINTED)──> current + next ──(in every ca.crt)──> + 30 days ──> next is
    the current one, and the old one is only trusted until its end.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509 import Certificate

from mailrelay_gateway.contract.moments import parse_rfc3339, rfc3339
from mailrelay_operator.plan.certificates import BACKDATED, LEAF_LIFE, parse_chain
from mailrelay_operator.plan.facts import Absence, Authority, Lookup
from mailrelay_operator.plan.objects import secret_data

_BUNDLE, _KEY, _NEXT_KEY, _SPREAD = "ca.crt", "ca.key", "next.key", "next.spread"

#: How long a new CA is in every `ca.crt` before it issues: clients that load the file at least
#: this often never fail.
OVERLAP = timedelta(days=30)
#: How long before the end of the current CA the next one is generated: after the overlap it could
#: still issue a certificate of full life, so that none has to be shortened.
NEXT_MINTED = OVERLAP + LEAF_LIFE
#: How long the overlap may wait for a tenant's Secret that cannot be written: one tenant's quota
#: must not keep the others on a CA that expires.
STRAGGLERS = timedelta(days=7)


class Replaced(Enum):
    """Why another CA issues certificates from now on."""

    AFTER_OVERLAP = "after overlap"
    EXPIRED = "expired"  # also: not valid yet, issued by a clock that was ahead
    LOST = "lost"


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorities:
    """A relay's private CAs, as its Secret holds them.

    `current` issues; `next` will; `spread` is since when `next` is in every `ca.crt` (None: not
    yet). `previous` are the certificates (PEM) of replaced ones that have not expired.
    """

    current: Authority
    next: Authority | None = None
    spread: datetime | None = None
    previous: tuple[str, ...] = ()

    @property
    def bundle(self) -> str:
        """What a client has to trust (PEM): the CA that issues is the first."""
        following = (self.next.certificate,) if self.next is not None else ()
        found = (self.current.certificate, *following, *self.previous)
        return "".join(f"{one.strip()}\n" for one in found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Succession:
    """The CAs from now on. `authorities` is None if none can issue: a new one is needed at once.
    `wants_next`: the next one has to be generated. `replaced` is why the one that issues changed.
    """

    authorities: Authorities | None
    wants_next: bool = False
    replaced: Replaced | None = None


def succeed(found: Authorities, *, now: datetime, everywhere: bool) -> Succession:
    """Which CAs are in effect. `everywhere`: every `ca.crt` is known to hold the whole bundle."""
    kept = replace(found, previous=_unexpired(found.previous, now=now))
    if kept.next is not None and not is_valid(kept.next.certificate, now=now):
        kept = replace(kept, next=None, spread=None)
    if not is_valid(kept.current.certificate, now=now):
        if kept.next is None:
            return Succession(authorities=None, replaced=Replaced.EXPIRED)
        return Succession(authorities=_promoted(kept, now=now), replaced=Replaced.EXPIRED)
    if kept.next is None:
        due = _end(kept.current.certificate) - NEXT_MINTED
        return Succession(authorities=replace(kept, spread=None), wants_next=now >= due)
    if kept.spread is None or kept.spread > now:  # a clock that was ahead proves nothing
        waited = now - _minted(kept.next.certificate) >= STRAGGLERS
        kept = replace(kept, spread=now if everywhere or waited else None)
    if kept.spread is not None and now - kept.spread >= OVERLAP:
        return Succession(authorities=_promoted(kept, now=now), replaced=Replaced.AFTER_OVERLAP)
    return Succession(authorities=kept)


def is_valid(certificate: str, *, now: datetime) -> bool:
    """Whether clients accept this CA (PEM) now."""
    chain = parse_chain(certificate)
    return bool(chain) and chain[0].not_valid_before_utc <= now < chain[0].not_valid_after_utc


def read_authorities(data: Mapping[str, bytes]) -> Authorities | None:
    """What `write_authorities` wrote; None for anything else. `ca.crt` is the whole bundle, so that
    a person may take it for a client; the keys say how many of its first certificates can issue.
    """
    text = {key: octets.decode(errors="replace") for key, octets in data.items()}
    certificates = [_pem(one) for one in parse_chain(text.get(_BUNDLE, ""))]
    if not certificates:
        return None
    current = Authority(certificate=certificates[0], key=text.get(_KEY, ""))
    if not _matches(current):
        return None
    if len(certificates) > 1:
        following = Authority(certificate=certificates[1], key=text.get(_NEXT_KEY, ""))
        if _matches(following):
            return Authorities(
                current=current,
                next=following,
                spread=parse_rfc3339(text.get(_SPREAD, "")),
                previous=tuple(certificates[2:]),
            )
    return Authorities(current=current, previous=tuple(certificates[1:]))


def write_authorities(found: Authorities) -> dict[str, bytes]:
    """The data of the CA's Secret. Every key is always there: one that is left out would stay if
    somebody else had written it, as after a restore, and count for the CA after the next."""
    spread = rfc3339(found.spread) if found.next is not None and found.spread is not None else ""
    text = {
        _BUNDLE: found.bundle,
        _KEY: found.current.key,
        _NEXT_KEY: found.next.key if found.next is not None else "",
        _SPREAD: spread,
    }
    return {key: value.encode() for key, value in text.items()}


def trust_digest(bundle: str) -> str:
    """Identifies a `ca.crt`; empty for none."""
    return hashlib.sha256(bundle.encode()).hexdigest() if bundle else ""


def trusted_by(secret: Lookup) -> str | None:
    """The digest of the `ca.crt` in a tenant's Secret; None while it cannot be read."""
    if isinstance(secret, Absence):
        return "" if secret is Absence.MISSING else None
    return trust_digest(secret_data(secret).get(_BUNDLE, b"").decode(errors="replace"))


def _promoted(kept: Authorities, *, now: datetime) -> Authorities:
    assert kept.next is not None
    old = _unexpired((kept.current.certificate,), now=now)
    return Authorities(current=kept.next, previous=(*old, *kept.previous))


def _unexpired(certificates: Iterable[str], *, now: datetime) -> tuple[str, ...]:
    return tuple(one for one in certificates if is_valid(one, now=now))


def _end(certificate: str) -> datetime:
    return _first(certificate).not_valid_after_utc


def _minted(certificate: str) -> datetime:
    return _first(certificate).not_valid_before_utc + BACKDATED


def _matches(authority: Authority) -> bool:
    """Whether the key is the certificate's: with another one it could issue nothing."""
    try:
        key = load_pem_private_key(authority.key.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return False
    return key.public_key() == _first(authority.certificate).public_key()


def _pem(certificate: Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()


def _first(certificate: str) -> Certificate:
    return parse_chain(certificate)[0]
