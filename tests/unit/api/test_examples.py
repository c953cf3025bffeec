"""The examples are valid; those in examples/planned use fields that do not act yet, and its README
names them.
"""

import re
from pathlib import Path

import pytest
import yaml

from mailrelay_operator.api.metadata import API_VERSION
from mailrelay_operator.api.parsing import Resource, parse
from mailrelay_operator.api.unsupported import unsupported_fields

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
RUNNING = sorted(EXAMPLES.glob("*.yaml"))
PLANNED = sorted((EXAMPLES / "planned").glob("*.yaml"))


def awaited(path: Path) -> set[str]:
    """The fields of an example that do not act yet."""
    documents = yaml.safe_load_all(path.read_text())
    ours: list[Resource] = [parse(one) for one in documents if one["apiVersion"] == API_VERSION]
    assert ours
    return {field for resource in ours for field in unsupported_fields(resource)}


def rows(page: Path) -> dict[str, set[str]]:
    """File -> the words in code font of the rest of its row, for the table of a README."""
    found = {}
    for line in page.read_text().splitlines():
        if row := re.match(r"\| \[`?([\w-]+\.yaml)`?\]\(\1\) \|(.*)", line):
            found[row[1]] = set(re.findall(r"`([^`]+)`", row[2]))
    return found


@pytest.mark.parametrize("path", RUNNING, ids=lambda path: path.stem)
def test_what_is_in_examples_uses_only_what_acts(path: Path) -> None:
    assert awaited(path) == set()


def test_the_readme_lists_every_example() -> None:
    assert sorted(rows(EXAMPLES / "README.md")) == [path.name for path in RUNNING]


@pytest.mark.parametrize("path", PLANNED, ids=lambda path: path.stem)
def test_a_planned_example_is_valid_and_the_readme_names_what_it_awaits(path: Path) -> None:
    # Empty: everything acts by now, and the example belongs one folder up.
    assert awaited(path)
    assert rows(EXAMPLES / "planned" / "README.md")[path.name] == awaited(path)


def test_the_readme_lists_every_planned_example() -> None:
    listed = sorted(rows(EXAMPLES / "planned" / "README.md"))
    assert listed == [path.name for path in PLANNED]
