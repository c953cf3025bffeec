"""When a pool opens a connection: one for the first message, a second one beside one that is slow,
never more than there may be, and only probes while held.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from mailrelay_gateway.couriers.smtp.openings import PROBES, Plan, Scene, plan_opening

SCENE = Scene(
    now=100.0,
    ready=True,
    held=False,
    probe_at=0.0,
    places=3,
    connections=0,
    began=(),
    not_before=0.0,
    slowed=False,
    stagger=2.0,
)
OPEN, NOTHING, FULL = Plan(open=True), Plan(), Plan(full=True)


@pytest.mark.parametrize(
    ("scene", "plan"),
    [
        (SCENE, OPEN),
        (replace(SCENE, ready=False), NOTHING),
        (replace(SCENE, connections=1), OPEN),
        (replace(SCENE, began=(99.0,)), Plan(again=101.0)),
        (replace(SCENE, began=(98.0,)), OPEN),
        (replace(SCENE, began=(90.0, 99.5)), Plan(again=101.5)),
        (replace(SCENE, connections=1, began=(90.0, 98.0)), FULL),
        (replace(SCENE, connections=3), FULL),
        (replace(SCENE, not_before=107.0), Plan(again=107.0)),
        (replace(SCENE, not_before=107.0, began=(99.0,)), Plan(again=107.0)),
        (replace(SCENE, not_before=100.5, began=(99.0,)), Plan(again=101.0)),
        (replace(SCENE, slowed=True), OPEN),
        (replace(SCENE, slowed=True, connections=1), FULL),
        (replace(SCENE, held=True, probe_at=105.0), Plan(again=105.0)),
        (replace(SCENE, held=True, ready=False, probe_at=105.0), Plan(again=105.0)),
        (replace(SCENE, held=True, ready=False, probe_at=100.0), OPEN),
        (replace(SCENE, held=True, began=(99.0,) * PROBES), NOTHING),
        (replace(SCENE, held=True, connections=3), NOTHING),
    ],
)
def test_the_plan(scene: Scene, plan: Plan) -> None:
    assert plan_opening(scene) == plan
