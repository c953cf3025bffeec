"""Texts are plain English: turns of phrase that once made them hard to read do not come back.

The list is short and sure: each entry has a plain replacement, and none is an ordinary phrase.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]

#: Turn of phrase (a regular expression) -> what to write instead.
BANNED = {
    r"in vain": "ignored, unused",
    r"brought along": "existing, provided",
    r"left out: ": "Default: ..., If unset, ...",
    r"is nothing to it": "say what is wrong: does not watch, is not referenced",
    r"what runs goes on": "the last accepted spec stays in effect",
    r"the last trouble with": "the last error from",
    r"stands here": "is in",
    r"is no object's name": "is not a valid object name",
    r"nobody vouches": "self-signed, not trusted",
    r"its queue waits": "its queue is held",
    r"accepted and waits": "accepted and stays queued",
    r"in the clear": "in cleartext",
    r"made anew|written anew|minted anew": "re-created, re-encoded, generated again",
    r"be it that|be there such": "whether",
    r"has no word (on|of)": "does not know",
    r"this very|that very": "exactly this, the same",
    r"for want of": "for lack of, without",
    r"sees? to it": "make sure",
    r"amid|in the midst of": "in, during",
    r"anew|afresh": "again, from the beginning",
    r"lest": "so that ... not",
    r"stands? (in it|twice|there|directly)": "is in, occurs twice",
    r"lies? (in|on|under|beside) (the|a)": "is in, is on",
    r"brings? along|brought with it": "has its own",
    r"be it \w+ or": "whether",
    r"in so many words": "explicitly",
}


def texts() -> list[Path]:
    """Sources, pages and values that users and newcomers read; decisions keep their wording."""
    sources = [*(ROOT / "operator").rglob("*.py"), *(ROOT / "gateway").rglob("*.py")]
    pages = [*ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*.*"), *ROOT.glob("*.md")]
    own = {ROOT / "CHANGELOG.md", *ROOT.glob("docs/adr/*.md")}
    chart = ROOT / "charts/mailrelay"
    templates = [*chart.glob("templates/*.*"), chart / "values.yaml", chart / "README.md"]
    return [*sources, *(page for page in pages if page not in own), *templates, ROOT / "Makefile"]


def plain(path: Path) -> str:
    """The text on one line, without comment markers and the quotes between joined literals."""
    text = re.sub(r"\n\s*(#:?|\*)?\s*", " ", path.read_text(encoding="utf-8"))
    return re.sub(r'"\s+f?"', "", text)


@pytest.mark.parametrize("turn", BANNED)
def test_a_banned_turn_of_phrase_does_not_come_back(turn: str) -> None:
    pattern = re.compile(rf"\b({turn})\b" if turn[-1] != " " else rf"\b({turn})", re.IGNORECASE)
    found = [
        f"{path.relative_to(ROOT)}: ...{text[max(0, hit.start() - 30) : hit.end() + 30]}..."
        for path in texts()
        for text in [plain(path)]
        for hit in pattern.finditer(text)
    ]
    assert not found, f"write instead: {BANNED[turn]}\n" + "\n".join(found)


def test_the_checker_sees_a_turn_over_a_line_break(tmp_path: Path) -> None:
    source = tmp_path / "x.py"
    source.write_text('TEXT = (\n    "What runs goes"\n    " on."\n)\n# asked in\n# vain\n')
    assert "What runs goes on." in plain(source)
    assert "asked in vain" in plain(source)
