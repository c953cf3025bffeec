"""Which objects are ours."""

from __future__ import annotations

from typing import Any

import pytest

from mailrelay_operator.plan.ownership import adoption, is_ours, label_value
from tests.unit.plan.build import relay

OURS = {"app.kubernetes.io/managed-by": "mailrelay", "mailrelay.dev/relay": "out"}


def owner(**fields: Any) -> dict[str, Any]:
    return {"kind": "MailRelay", "name": "out", "uid": "relay-uid", "controller": True, **fields}


@pytest.mark.parametrize(
    ("labels", "owners", "ours", "adopted"),
    [
        ({}, [owner()], True, False),
        (OURS, [owner()], True, False),
        (OURS, [], True, True),
        (OURS, [owner(uid="before-the-restore")], True, True),
        (OURS, [owner(uid="other", name="other")], False, False),
        (OURS, [owner(uid="other", kind="Deployment")], False, False),
        (OURS | {"mailrelay.dev/relay": "other"}, [], False, False),
        ({"mailrelay.dev/relay": "out"}, [], False, False),
        ({}, [], False, False),
        ({}, [owner(uid="before-the-restore")], False, False),
        ({}, [owner(controller=False)], False, False),
    ],
)
def test_an_object_is_ours_by_its_controller_or_by_our_labels_without_a_living_one(
    labels: dict[str, str], owners: list[dict[str, Any]], *, ours: bool, adopted: bool
) -> None:
    found = {
        "kind": "Service",
        "metadata": {"name": "out", "uid": "1", "labels": labels, "ownerReferences": owners},
    }
    assert is_ours(found, relay()) is ours
    assert (adoption(found, relay()) is not None) is adopted


def test_a_name_fits_into_a_label() -> None:
    assert label_value("app") == "app"
    long = label_value("a" * 253)
    assert len(long) <= 63
    assert long != label_value("a" * 252)
