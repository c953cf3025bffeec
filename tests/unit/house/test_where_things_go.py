"""The table of CONTRIBUTING.md that says where a new thing goes names files that exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PACKAGES = (ROOT, ROOT / "gateway" / "mailrelay_gateway", ROOT / "operator" / "mailrelay_operator")


def named() -> set[str]:
    """The paths in the table; `KIND` and `NAME` are yet to be chosen."""
    page = (ROOT / "CONTRIBUTING.md").read_text()
    table = page.partition("## Where does a new X go")[2].partition("\n## ")[0]
    paths = {path for path in re.findall(r"`([\w./-]+)`", table) if "/" in path or "." in path}
    return {re.sub(r"/(KIND|NAME)\b.*", "/", path) for path in paths}


def test_every_file_is_there() -> None:
    assert len(named()) > 20
    lost = [path for path in named() if not any((root / path).exists() for root in PACKAGES)]
    assert lost == []
