"""Every log call of gateway and operator says an event that docs/logs.md lists, at its level, with
its keys; and the page lists nothing else.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mailrelay_gateway.contract.stage import Stage
from tests.peers import vocabulary

ROOT = Path(__file__).resolve().parents[3]
PACKAGES = ("gateway/mailrelay_gateway", "operator/mailrelay_operator")
METHODS = {
    "info": "info",
    "warning": "warning",
    "error": "error",
    "critical": "critical",
    "exception": "error",
}
#: Where keys come from a mapping; tests/integration looks at the lines themselves.
OPEN = {("gateway/mailrelay_gateway/intake/smtp/answers.py", "refused")}
#: Added by the module that makes the lines.
OF_THE_LINE = {"time", "level", "event", "cut"}


@dataclass(frozen=True)
class Call:
    """One call of a logger."""

    where: str
    path: str
    level: str
    event: str | None
    keys: frozenset[str]
    is_open: bool


def calls() -> Iterator[Call]:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            tree = ast.parse(path.read_text())
            for node in ast.walk(tree):
                if isinstance(node, ast.Call) and _is_logger(node.func):
                    yield _call(str(path.relative_to(ROOT)), node)


def _is_logger(function: ast.expr) -> bool:
    return (
        isinstance(function, ast.Attribute)
        and function.attr in METHODS
        and ast.unparse(function.value) in ("log", "structlog.get_logger()")
    )


def _call(path: str, node: ast.Call) -> Call:
    assert isinstance(node.func, ast.Attribute)
    event = node.args[0] if len(node.args) == 1 else None
    named = {"exception" if each.arg == "exc_info" else each.arg for each in node.keywords}
    if node.func.attr == "exception":
        named.add("exception")
    return Call(
        where=f"{path}:{node.lineno}",
        path=path,
        level=METHODS[node.func.attr],
        event=event.value
        if isinstance(event, ast.Constant) and isinstance(event.value, str)
        else None,
        keys=frozenset(each for each in named if each is not None),
        is_open=None in named,
    )


def test_every_log_call_keeps_to_the_page() -> None:
    wrong = []
    for call in calls():
        event = vocabulary.events().get(call.event or "")
        if event is None:
            wrong.append(f"{call.where}: {call.event!r} is not an event of docs/logs.md")
            continue
        if call.level not in event.levels:
            wrong.append(f"{call.where}: {call.event} is logged as {call.level}")
        wrong += [
            f"{call.where}: {call.event} has no key {key!r}"
            for key in sorted(call.keys - event.keys)
        ]
        if call.is_open and (call.path, call.event) not in OPEN:
            wrong.append(f"{call.where}: {call.event}: name the keys in the call")
    assert wrong == []


def test_the_page_lists_nothing_that_is_not_logged() -> None:
    made = list(calls())
    of_the_log_itself = {"log_lines_dropped"}  # made without a logger
    logged = {call.event for call in made} | of_the_log_itself
    assert set(vocabulary.events()) - logged == set()
    for name, event in vocabulary.events().items():
        here = [call for call in made if call.event == name]
        if here and not any(call.is_open for call in here):
            assert event.keys == frozenset().union(*(call.keys for call in here)), name
            assert event.levels == {call.level for call in here}, name


def test_every_key_has_a_row_and_a_type() -> None:
    used = frozenset().union(*(event.keys for event in vocabulary.events().values()))
    assert set(vocabulary.keys()) == used | OF_THE_LINE
    assert set(vocabulary.keys().values()) <= set(vocabulary.TYPES)
    assert sorted(set(vocabulary.names())) == sorted(vocabulary.names())


def test_the_page_lists_the_stages_in_their_order() -> None:
    assert vocabulary.stages() == [stage.value for stage in Stage]


def test_a_list_is_a_plural_and_a_number_says_of_what() -> None:
    for key, kind in vocabulary.keys().items():
        assert key == key.lower()
        if kind == "list":
            assert key.endswith("s"), key
        if key.endswith(("count", "seconds")):
            assert kind == "number", key


def test_the_reader_of_lines_sees_what_is_wrong() -> None:
    right = {"time": "t", "level": "info", "event": "captured", "queue_id": "1", "upstream": "u"}
    assert vocabulary.problems(right) == []
    for wrong in (
        {"event": "made_up"},
        {"level": "error"},
        {"from": "a@example.com"},
        {"size": "5"},
        {"recipients": "a@example.com", "recipient_count": 1},
        {"recipients": ["a@example.com"]},
    ):
        assert vocabulary.problems(right | wrong) != [], wrong
