"""A new operator's image reaches one relay after the other."""

from __future__ import annotations

import copy
from datetime import datetime, timedelta
from typing import Any

from mailrelay_operator.plan.actions import Apply
from mailrelay_operator.plan.facts import Place
from mailrelay_operator.plan.manifests.statefulset import stateful_set
from mailrelay_operator.plan.rollout import is_postponed
from tests.unit.plan.build import NOW, facts, model, plan, relay

HOUR = timedelta(hours=1)
BEFORE = Place(image="gateway:1", started=NOW, rollout=HOUR)
AFTER = Place(image="gateway:2", started=NOW, rollout=HOUR)


def planned(place: Place, *, replicas: int = 1, **spec: Any) -> dict[str, Any]:
    return stateful_set(
        relay(**spec), model(**spec).spec, place=place, replicas=replicas, volume_size="10Gi"
    )


def postponed(
    there: dict[str, Any] | None,
    now: datetime = NOW,
    *,
    uid: str = "u",
    place: Place = AFTER,
    **spec: Any,
) -> bool:
    return is_postponed(there, planned(place, **spec), uid=uid, place=place, now=now)


def test_a_new_image_waits_for_the_relay_s_turn() -> None:
    there = planned(BEFORE)
    turns = []
    for number in range(200):
        minute = next(
            minute
            for minute in range(61)
            if not postponed(there, NOW + timedelta(minutes=minute), uid=f"uid-{number}")
        )
        turns.append(minute)
    # Spread over the hour, all of them by its end.
    assert max(turns) <= 60
    assert all(sum(minute // 10 == tenth for minute in turns) > 10 for tenth in range(6))


def test_what_the_owner_asks_for_is_done_at_once() -> None:
    there = planned(BEFORE)
    assert postponed(there)
    assert not postponed(there, hostname="other.example.com")
    assert not postponed(there, replicas=2)
    assert not postponed(there, image="gateway:2")
    assert not postponed(None)


def test_what_is_no_new_image_is_mended_at_once() -> None:
    broken = copy.deepcopy(planned(AFTER))
    broken["spec"]["replicas"] = 7
    assert not postponed(broken)


def test_without_a_time_nothing_waits() -> None:
    assert not postponed(planned(BEFORE), place=Place(image="gateway:2", started=NOW))
    assert not postponed(planned(BEFORE), place=Place(image="gateway:2"))


def applied_images(now: datetime) -> list[str]:
    there = planned(BEFORE)
    there["metadata"]["uid"] = "1"
    made = plan(facts(relay(), objects=[there], place=AFTER, now=now))
    return [
        one.manifest["spec"]["template"]["spec"]["containers"][0]["image"]
        for one in made.actions
        if isinstance(one, Apply) and one.manifest["kind"] == "StatefulSet"
    ]


def test_the_plan_leaves_the_pods_alone_until_then() -> None:
    assert applied_images(NOW) == []
    assert applied_images(NOW + HOUR) == ["gateway:2"]
