"""docs/connect-your-app.md as data: the code of each client, and what its failures look like."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "connect-your-app.md"


def code_of(client: str) -> str:
    """The first block of code below the client's heading."""
    section = re.search(
        rf"^### {re.escape(client)}\n(.*?)(?=^##|\Z)",
        PAGE.read_text(),
        re.MULTILINE | re.DOTALL,
    )
    assert section, f"no heading {client!r}"
    block = re.search(r"^```\w+\n(.*?)^```$", section[1], re.MULTILINE | re.DOTALL)
    assert block, f"no code below {client!r}"
    return block[1]


def failures_of(client: str) -> dict[str, tuple[str, ...]]:
    """Failure -> what the client says, in pieces, from the page's table of failures."""
    head, rows = _table()
    cells = rows[client]
    return {
        failure: tuple(re.findall(r"`([^`]+)`", cell))
        for failure, cell in zip(head, cells, strict=True)
    }


def clients() -> tuple[str, ...]:
    """The clients of the table of failures."""
    return tuple(_table()[1])


def _table() -> tuple[list[str], dict[str, list[str]]]:
    text = PAGE.read_text()
    lines = text[text.index("| client | CA") :].split("\n\n")[0].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return rows[0][1:], {row[0]: row[1:] for row in rows[2:]}
