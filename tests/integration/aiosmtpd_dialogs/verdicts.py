"""What becomes of each of aiosmtpd's tests of dialogs, read from verdicts.txt."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

FILE = Path(__file__).with_name("verdicts.txt")


class Kind(StrEnum):
    """How a test goes against our listeners."""

    SAME = "same"
    DIFFERENT = "different"
    NOT_APPLICABLE = "not applicable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One test's; `code` is ours where it differs, and `reason` is empty for what is the same."""

    kind: Kind
    code: int
    reason: str


def read() -> dict[str, Verdict]:
    """The verdict on each test, by its id without the file's name.

    Lines that begin with `# ` say which verdict the tests below have: `# same`,
    `# different, CODE: REASON`, or `# not applicable: REASON`.
    """
    found: dict[str, Verdict] = {}
    verdict: Verdict | None = None
    for line in filter(None, FILE.read_text().splitlines()):
        if line.startswith("# "):
            head, _, reason = line[2:].partition(": ")
            kind, _, code = head.partition(", ")
            verdict = Verdict(kind=Kind(kind), code=int(code or 0), reason=reason)
            assert bool(reason) == (verdict.kind is not Kind.SAME), line
            assert bool(code) == (verdict.kind is Kind.DIFFERENT), line
        else:
            assert verdict is not None, f"{line} is under no verdict"
            assert line not in found, f"{line} has two verdicts"
            found[line] = verdict
    return found
