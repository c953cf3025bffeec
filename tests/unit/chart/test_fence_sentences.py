"""The sentences by which the end-to-end tests tell the chart's policies apart are in the chart: a
reworded message is noticed without a cluster.
"""

import re
from pathlib import Path

import pytest

from tests.e2e.fence import PINNED

TEMPLATES = Path(__file__).resolve().parents[3] / "charts/mailrelay/templates"


@pytest.mark.parametrize("sentence", sorted({sentence for _, _, _, sentence in PINNED}))
def test_the_sentence_is_in_the_chart(sentence: str) -> None:
    texts = [(TEMPLATES / name).read_text() for name in ("admission-policies.yaml", "_fence.tpl")]
    assert sentence in re.sub(r"\s+", " ", " ".join(texts))
