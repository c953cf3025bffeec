"""RFC 3339 is written and read by one module, and by nothing else."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from mailrelay_gateway.contract.moments import parse_rfc3339, rfc3339, stamp

ROOT = Path(__file__).resolve().parents[3]
MOMENT = datetime(2030, 1, 31, 10, 11, 12, 345678, UTC)
#: Other forms of other standards: times for a terminal, and an upstream's words.
OTHERS = {
    "gateway/mailrelay_gateway/contract/moments.py",
    "operator/mailrelay_operator/cli/loglines.py",
    "operator/mailrelay_operator/cli/inbox.py",
    "gateway/mailrelay_gateway/couriers/replies/reply_text.py",
}


@pytest.mark.parametrize(
    "moment", [MOMENT, MOMENT.timestamp(), MOMENT.astimezone(timezone(timedelta(hours=5)))]
)
def test_a_moment_is_written_in_utc(moment: float | datetime) -> None:
    assert rfc3339(moment) == "2030-01-31T10:11:12Z"
    assert rfc3339(moment, "milliseconds") == "2030-01-31T10:11:12.345Z"
    assert stamp(moment) == "20300131T101112Z"


def test_microseconds_are_kept_where_they_are_asked_for() -> None:
    assert rfc3339(MOMENT, "microseconds") == "2030-01-31T10:11:12.345678Z"
    assert parse_rfc3339("2030-01-31T10:11:12.345678Z") == MOMENT


def test_a_text_without_a_zone_is_utc_and_other_texts_are_none() -> None:
    assert parse_rfc3339("2030-01-31T10:11:12") == MOMENT.replace(microsecond=0)
    assert parse_rfc3339("soon") is None
    assert parse_rfc3339("") is None


def test_nothing_else_writes_or_reads_moments() -> None:
    found = {
        str(path.relative_to(ROOT))
        for package in ("gateway", "operator")
        for path in (ROOT / package).rglob("*.py")
        if re.search(r"\.(isoformat|strftime|fromisoformat|strptime)\(", path.read_text())
    }
    assert found <= OTHERS
