"""When a relay's pods get a new operator's image: not all relays at once. Pure.

A new version of the operator brings a new image for all gateways. A fault in it shows at the first
relays while the others still run the previous one; spec.image overrides the schedule.
"""

from __future__ import annotations

import hashlib
from datetime import datetime

from mailrelay_operator.api.mailrelay import MailRelaySpec
from mailrelay_operator.api.names import ANNOTATION_PLANNED_FROM
from mailrelay_operator.plan.facts import Place
from mailrelay_operator.plan.objects import Manifest, annotations_of


def planned_from(spec: MailRelaySpec, *, replicas: int, volume_size: str) -> str:
    """The input of a StatefulSet other than the operator's settings. Defaults are omitted, so that
    a field added by a new version does not count as a change."""
    asked = spec.model_dump_json(by_alias=True, exclude_defaults=True)
    said = f"{asked} {replicas} {volume_size}"
    return hashlib.sha256(said.encode()).hexdigest()[:32]


def is_postponed(
    there: Manifest | None, planned: Manifest, *, uid: str, place: Place, now: datetime
) -> bool:
    """Whether this StatefulSet must not be changed yet: only its image would change, the spec did
    not, and it is not the relay's turn."""
    if there is None or place.started is None or now >= place.started + _turn(uid) * place.rollout:
        return False
    same = _origin(there) == _origin(planned)
    return same and _image(there) != _image(planned)


def _turn(uid: str) -> float:
    """The relay's place in the rollout, from 0 to 1; deterministic."""
    return int(hashlib.sha256(uid.encode()).hexdigest()[:8], 16) / 0xFFFFFFFF


def _origin(stateful_set: Manifest) -> str:
    return annotations_of(stateful_set).get(ANNOTATION_PLANNED_FROM, "")


def _image(stateful_set: Manifest) -> str:
    return str(stateful_set["spec"]["template"]["spec"]["containers"][0]["image"])
