"""What the documentation says exists: links, files, metrics, options."""

import re
from datetime import UTC, datetime
from pathlib import Path

import click
import pytest

from mailrelay_gateway.metrics import Metrics
from mailrelay_operator.api.presets import PRESETS
from mailrelay_operator.cli.checking import examine
from mailrelay_operator.cli.documents import scan
from mailrelay_operator.cli.main import main
from mailrelay_operator.engine.metrics import OperatorMetrics

ROOT = Path(__file__).resolve().parents[3]
PAGES = [
    *ROOT.glob("*.md"),
    *(page for page in ROOT.glob("docs/**/*.md")),
    *ROOT.glob("charts/mailrelay/*.md"),
    *ROOT.glob("examples/**/*.md"),
]
LINK = re.compile(r"\]\(([^)#\s]+)(#[^)\s]*)?\)")


def test_there_are_pages() -> None:
    assert len(PAGES) > 25


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_to_a_file_leads_to_one(page: Path) -> None:
    targets = [found[1] for found in LINK.finditer(page.read_text())]
    local = [
        target for target in targets if "://" not in target and not target.startswith("mailto:")
    ]
    assert [target for target in local if not (page.parent / target).exists()] == []


def test_every_module_that_a_page_names_exists() -> None:
    folders = [ROOT, ROOT / "gateway" / "mailrelay_gateway", ROOT / "operator/mailrelay_operator"]
    missing, found = [], 0
    # A decision speaks of its day.
    for page in (page for page in PAGES if page.parent.name != "adr"):
        for name in re.findall(r"`([\w.-]+/[\w./-]+\.py)`", page.read_text()):
            found += 1
            if not any((folder / name).is_file() for folder in folders):
                missing.append(f"{page.relative_to(ROOT)}: {name}")
    assert missing == []
    assert found > 50


def test_the_relays_of_the_how_tos_can_be_used() -> None:
    found = 0
    for page in (*(ROOT / "docs").glob("*.md"), *(ROOT / "docs/how-to").glob("*.md")):
        for block in re.findall(r"^```yaml\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
            if "kind: MailRelay" in block:
                found += 1
                assert examine(scan(page.name, block), now=datetime.now(UTC)).problems == ()
    assert found > 10


def test_every_provider_has_a_how_to() -> None:
    pages = "".join(page.read_text() for page in (ROOT / "docs/how-to").glob("*.md"))
    assert [name for name in PRESETS if not re.search(rf"provider: {name}\b", pages)] == []


def test_the_page_of_metrics_names_exactly_those_that_are_served() -> None:
    text = Metrics().render() + OperatorMetrics().render()
    served = {line.split()[2] for line in text.decode().splitlines() if line.startswith("# HELP")}
    page = (ROOT / "docs" / "metrics.md").read_text()
    assert set(re.findall(r"^\| `(mailrelay_\w+)` \|", page, re.MULTILINE)) == served


def test_the_page_of_standalone_names_every_option_of_up() -> None:
    up = main.get_command(click.Context(main), "up")
    assert up is not None
    options = {name for option in up.params for name in option.opts if name.startswith("--")}
    page = (ROOT / "docs" / "standalone.md").read_text()
    assert set(re.findall(r"^\| `(--[\w-]+)` \|", page, re.MULTILINE)) == options


def test_decisions_are_numbered_without_gap_and_have_the_same_parts() -> None:
    records = sorted((ROOT / "docs" / "adr").glob("*.md"))
    numbers = [int(path.name[:4]) for path in records]
    assert numbers == list(range(1, len(numbers) + 1))
    for path in records:
        text = path.read_text()
        assert text.startswith(f"# {int(path.name[:4])}. "), path.name
        parts = re.findall(r"^## (\w+)", text, re.MULTILINE)
        assert parts[:3] == ["Context", "Decision", "Consequences"], path.name
