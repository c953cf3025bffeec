"""Write docs/reference/api.md, reasons.md and providers.md from the code: `python
docs/reference/generate.py [--check]`.

--check writes nothing, and fails where a page is not what the code says. What the pages say is made
in mailrelay_operator.api.reference; here it only meets the gateway's reasons, which the operator
does not import.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from mailrelay_gateway.reasons import REPLIES, Reason
from mailrelay_operator.api.reference import api_page, providers_page, reasons_page

HERE = Path(__file__).resolve().parent


def pages() -> Iterator[tuple[Path, str]]:
    """Every generated page and its text."""
    yield HERE / "api.md", api_page()
    yield HERE / "providers.md", providers_page()
    words = ((reason.value, reason.sentence, REPLIES.get(reason, {}).values()) for reason in Reason)
    yield HERE / "reasons.md", reasons_page(words)


def main(arguments: list[str]) -> int:
    """Write or check the pages; 1 if one is not what the code says."""
    stale = [(path, text) for path, text in pages() if not _is_current(path, text)]
    for path, text in stale:
        if "--check" in arguments:
            sys.stderr.write(f"{path} is not what the code says: run {Path(__file__).name}.\n")
        else:
            path.write_text(text)
            sys.stdout.write(f"wrote {path}\n")
    return int("--check" in arguments and bool(stale))


def _is_current(path: Path, text: str) -> bool:
    return path.exists() and path.read_text() == text


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
