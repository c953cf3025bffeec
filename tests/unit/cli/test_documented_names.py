"""Names in the documentation exist: headings that links lead to, metrics, commands with their
options, chart values, and the words of conditions, reasons and log events.
"""

import re
from functools import cache
from pathlib import Path

import click
import pytest
import yaml

from mailrelay_gateway.metrics import Metrics
from mailrelay_operator.cli.main import main
from mailrelay_operator.engine.metrics import OperatorMetrics

ROOT = Path(__file__).resolve().parents[3]
# A decision speaks of its day, and a release of its version.
PAGES = [
    ROOT / "README.md",
    ROOT / "ARCHITECTURE.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "SECURITY.md",
    ROOT / "charts/mailrelay/README.md",
    *(page for page in ROOT.glob("docs/**/*.md") if page.parent.name != "adr"),
    *ROOT.glob("examples/**/*.md"),
]
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
EVERY = pytest.mark.parametrize("page", PAGES, ids=NAMES)


def slugs(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@EVERY
def test_every_link_to_a_heading_leads_to_one(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]*)#([^)\s]+)\)", page.read_text())
    local = [(target, anchor) for target, anchor in links if "://" not in target]
    missing = [
        (target, anchor)
        for target, anchor in local
        if anchor not in slugs(page.parent / target if target else page)
    ]
    assert missing == []


@cache
def metrics() -> set[str]:
    text = (Metrics().render() + OperatorMetrics().render()).decode()
    families = {line.split()[2] for line in text.splitlines() if line.startswith("# HELP")}
    parts = {f"{name}_{part}" for name in families for part in ("bucket", "sum", "count")}
    return families | parts


@EVERY
def test_every_metric_that_a_page_names_is_served(page: Path) -> None:
    named = set(re.findall(r"\bmailrelay_[a-z_]+[a-z]\b", page.read_text()))
    packages = {"mailrelay_gateway", "mailrelay_operator"}
    assert named - packages - metrics() == set()


@EVERY
def test_every_command_that_a_page_shows_exists_with_its_options(page: Path) -> None:
    wrong = []
    context = click.Context(main)
    lines = re.findall(
        r"(?:`|^[$#] (?:\S*/)?)mailrelay ([a-z]+[^`\n]*)", page.read_text(), re.MULTILINE
    )
    for line in lines:
        command: click.Command | None = main
        for word in line.split():
            if not isinstance(command, click.Group) or not word.isalpha():
                break
            command = command.get_command(context, word)
        options = (
            set() if command is None else {one for each in command.params for one in each.opts}
        )
        shown = set(re.findall(r"(?<=\s)(--[a-z-]+)", line.split("#")[0]))
        if command is None or not shown <= options | {"--help"}:
            wrong.append(line)
    assert wrong == []


@EVERY
def test_every_chart_value_that_a_page_names_exists(page: Path) -> None:
    values = yaml.safe_load((ROOT / "charts/mailrelay/values.yaml").read_text())
    wrong = []
    for name in re.findall(r"`([a-z]\w+(?:\.\w+)+)`", page.read_text()):
        known = name.split(".")[0] in values and not name.endswith((".log", ".json"))
        here = values
        for part in name.split("."):
            here = here.get(part) if isinstance(here, dict) else None
        if known and here is None:
            wrong.append(name)
    assert wrong == []


@cache
def code() -> frozenset[str]:
    """Every word in the sources, the chart and the API."""
    files = [
        *ROOT.glob("gateway/**/*.py"),
        *ROOT.glob("operator/**/*.py"),
        *ROOT.glob("charts/mailrelay/**/*.*"),
        *ROOT.glob("crds/*.yaml"),
        *ROOT.glob("tests/**/*.py"),
        ROOT / "pyproject.toml",
    ]
    pages = {".md"}
    texts = (path.read_text() for path in files if path.is_file() and path.suffix not in pages)
    return frozenset(word for text in texts for word in re.findall(r"\w+", text))


@pytest.mark.parametrize(
    "page",
    # The other pages quote mail clients and providers.
    [page for page in PAGES if page.name not in {"connect-your-app.md", "google.md"}],
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_every_word_in_code_style_is_one_of_the_code(page: Path) -> None:
    words = re.findall(r"`([A-Z][a-z]+(?:[A-Z][a-z]+)+|[a-z]+(?:_[a-z]+)+)`", page.read_text())
    assert [word for word in words if word not in code() and "mailrelay_" not in word] == []
