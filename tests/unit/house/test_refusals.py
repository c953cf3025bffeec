"""Every refusal takes its code, enhanced code and sentence from reasons.py: what is asked for is
there, with the fields that the sentence has, and what is there is asked for.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from string import Formatter

import pytest

from mailrelay_gateway.reasons import REPLIES, Reason, Wording

ROOT = Path(__file__).parents[3] / "gateway" / "mailrelay_gateway"
WORDINGS = [
    (reason, variant, wording)
    for reason, variants in REPLIES.items()
    for variant, wording in variants.items()
]


def calls() -> Iterator[tuple[str, ast.Call]]:
    """Every call of `refuse` with a reason, and where it stands."""
    for path in sorted(ROOT.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id == "refuse"
            ):
                yield f"{path.relative_to(ROOT)}:{node.lineno}", node


def variants(call: ast.Call) -> list[str]:
    """The variants that a call may ask for: a word, or one of two."""
    if len(call.args) < 2:
        return [""]
    second = call.args[1]
    if isinstance(second, ast.Name):  # named a line before
        return ["", "defer"] if second.id == "variant" else []
    branches = [second.body, second.orelse] if isinstance(second, ast.IfExp) else [second]
    return [ast.literal_eval(branch) for branch in branches]


def fields(wording: Wording) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(wording.sentence) if name}


def test_what_is_asked_for_is_there_and_the_other_way_round() -> None:
    asked = set()
    for where, call in calls():
        reason = call.args[0]
        assert isinstance(reason, ast.Attribute), where
        given = {keyword.arg for keyword in call.keywords} - {"detail"}
        assert variants(call), where
        for variant in variants(call):
            wording = REPLIES[Reason[reason.attr]][variant]
            assert given == fields(wording), f"{where}: {wording.sentence}"
            asked.add((Reason[reason.attr], variant))
    assert asked == {(reason, variant) for reason, variant, _ in WORDINGS}


@pytest.mark.parametrize(("reason", "variant", "wording"), WORDINGS)
def test_a_wording_is_a_refusal(reason: Reason, variant: str, wording: Wording) -> None:
    """Invariant: the enhanced code is of the code's class (RFC 2034 section 4)."""
    del reason, variant
    assert wording.code // 100 in (4, 5)
    assert wording.enhanced[0] == str(wording.code)[0]
    assert wording.enhanced.count(".") == 2
    assert wording.sentence.isascii() and not wording.sentence.endswith(".")
