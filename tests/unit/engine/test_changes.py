"""Which events are news."""

from __future__ import annotations

from typing import Any

import pytest

from mailrelay_operator.engine.changes import Changes


def seen(**metadata: Any) -> dict[str, Any]:
    return {
        "metadata": {"uid": "1", "name": "out", "generation": 1, **metadata},
        "status": {"changes": metadata.get("resourceVersion")},
    }


@pytest.mark.parametrize(
    ("metadata", "news"),
    [
        ({"resourceVersion": "2"}, False),
        ({"managedFields": []}, False),
        ({"generation": 2}, True),
        ({"labels": {"mail": "allowed"}}, True),
        ({"annotations": {"note": "x"}}, True),
        ({"deletionTimestamp": "2026-01-01T00:00:00Z"}, True),
        ({"uid": "2"}, True),
    ],
)
def test_news_is_what_a_person_changed(metadata: dict[str, Any], *, news: bool) -> None:
    changes = Changes()
    assert changes.is_news(seen(), deleted=False)
    assert changes.is_news(seen(**metadata), deleted=False) is news


def test_what_is_gone_is_forgotten() -> None:
    changes = Changes()
    changes.is_news(seen(), deleted=False)
    assert changes.is_news(seen(), deleted=True)
    assert len(changes) == 0
