"""docs/metrics.md lists exactly the metrics that gateway and operator have: name, type, labels and
meaning, a unit that fits the name; and what is served has no series but theirs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.parser import text_string_to_metric_families

from mailrelay_gateway.contract.stage import Stage
from mailrelay_gateway.metrics import Metrics
from mailrelay_operator.engine.metrics import OperatorMetrics

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs" / "metrics.md"
INTAKE = ROOT / "gateway" / "mailrelay_gateway" / "intake"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What the page says of a metric, or what the code does."""

    type: str
    labels: tuple[str, ...]
    meaning: str


def cells() -> Iterator[list[str]]:
    for line in PAGE.read_text().splitlines():
        found = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| `mailrelay_") and len(found) == 5:
            yield found


def described() -> dict[str, Row]:
    page = {}
    for name, kind, _, labels, meaning in cells():
        names = re.sub(r"\([^()]*(\([^()]*\))?[^()]*\)", "", labels)
        page[name.strip("`")] = Row(
            type=kind,
            labels=tuple(each.strip() for each in names.split(",") if each.strip()),
            meaning=meaning,
        )
    return page


def declared() -> dict[str, Row]:
    code = {}
    for part in (Metrics(), OperatorMetrics()):
        for value in vars(part).values():
            metric = getattr(value, "metric", value)
            if isinstance(metric, MetricWrapperBase):
                (family,) = metric.describe()
                ending = "_total" if family.type == "counter" else ""
                code[family.name + ending] = Row(
                    type=family.type,
                    labels=tuple(metric._labelnames),
                    meaning=family.documentation,
                )
    return code


def test_the_page_says_what_the_code_has() -> None:
    assert described() == declared()


def test_the_page_says_which_stages_are_refused_at() -> None:
    (labels,) = [labels for name, _, _, labels, _ in cells() if "rejected_total" in name]
    listed = re.search(r"stage \(([^;]*);", labels)
    assert listed is not None
    named: set[str] = set()
    for path in INTAKE.rglob("*.py"):
        named |= set(re.findall(r"\bStage\.([A-Z_]+)\b", path.read_text()))
    assert set(listed[1].split(", ")) == {Stage[name].value for name in named}


def test_a_unit_fits_its_name() -> None:
    for name, kind, unit, _, _ in cells():
        plain = name.strip("`").removesuffix("_total")
        for ending, wanted in (("_seconds", "seconds"), ("_bytes", "octets"), ("_ratio", "0 to 1")):
            assert plain.endswith(ending) == (unit == wanted), name
        assert (kind == "counter") == name.strip("`").endswith("_total")
        assert unit


@pytest.mark.parametrize("served", [Metrics().render, OperatorMetrics().render])
def test_no_series_tells_when_a_counter_began(served: object) -> None:
    assert callable(served)
    families = {each.name for each in text_string_to_metric_families(served().decode())}
    assert families
    assert not [name for name in families if name.endswith("_created")]
