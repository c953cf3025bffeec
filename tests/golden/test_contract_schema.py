"""What the contract's documents may hold, as a JSON schema for each schema number: a change is seen
in review, and one that an older gateway cannot ignore needs a new number.

`GOLDEN=write make test ARGS="-k contract_schema"` writes the file of the present number anew. Once
there is a release it refuses to, where the number has to rise.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydantic.json_schema import models_json_schema

from mailrelay_gateway.contract.documents import SCHEMA, RelayDocument, SendersDocument

HERE = Path(__file__).parent / "contract"
FILE = HERE / f"schema-{SCHEMA}.json"
CHANGELOG = Path(__file__).parents[2] / "CHANGELOG.md"
NUMBER = (
    f"an older gateway refuses it or does harm: set SCHEMA in contract/documents.py to {SCHEMA + 1}"
)
WRITE = 'GOLDEN=write make test ARGS="-k contract_schema"'


@dataclass(frozen=True, slots=True)
class Change:
    """One difference between two schemas; `safe`: a reader of the older one may ignore it."""

    where: str
    what: str
    safe: bool

    def __str__(self) -> str:
        advice = f"if ignoring it does no harm: {WRITE}" if self.safe else NUMBER
        return f"{self.where}: {self.what}; {advice}"


def present() -> dict[str, Any]:
    """The schema of the documents as they are written."""
    models: list[Any] = [(RelayDocument, "serialization"), (SendersDocument, "serialization")]
    _, schema = models_json_schema(models, by_alias=True)
    return _plain(schema["$defs"])


def _plain(schema: Any) -> Any:
    """Without words for people."""
    if isinstance(schema, dict):
        return {
            key: {name: _plain(each) for name, each in value.items()}
            if key == "properties"
            else _plain(value)
            for key, value in schema.items()
            if key not in ("title", "description")
        }
    return [_plain(each) for each in schema] if isinstance(schema, list) else schema


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Change]:
    """What changed from one schema to another."""
    for name in sorted(new.keys() - old.keys()):
        yield Change(name, "is new", safe=True)  # where it is used, there is a change too
    for name in sorted(old.keys() - new.keys()):
        yield Change(name, "is gone", safe=True)
    for name in sorted(old.keys() & new.keys()):
        yield from _changes_of(name, old[name], new[name])


def _changes_of(name: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Change]:
    for value in new.get("enum", ()):
        if value not in old.get("enum", ()):
            yield Change(name, f"{value!r} is a new value", safe=False)
    before, after = old.get("properties", {}), new.get("properties", {})
    for field in sorted(after.keys() - before.keys()):
        yield Change(f"{name}.{field}", "is a new field", safe=True)
    for field in sorted(before.keys() - after.keys()):
        yield Change(f"{name}.{field}", "is gone, and older readers need it", safe=False)
    for field in sorted(before.keys() & after.keys()):
        if before[field] != after[field]:
            safe = _more_kinds(before[field], after[field])
            yield Change(f"{name}.{field}", "has another type or other bounds", safe=safe)


def _more_kinds(before: Any, after: Any) -> bool:
    """Whether nothing but kinds were added, which older readers know to be unknown."""
    if isinstance(before, dict) and isinstance(after, dict) and before.keys() == after.keys():
        return all(
            _more_kinds(before[key], after[key])
            if key != "oneOf"
            else all(kind in after[key] for kind in before[key])
            for key in before
        )
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        return all(map(_more_kinds, before, after))
    return bool(before == after)


def released() -> bool:
    """Whether there is a version in use whose gateways read this contract."""
    return re.search(r"^## \[\d", CHANGELOG.read_text(), re.MULTILINE) is not None


def test_the_contract_is_what_its_schema_number_says() -> None:
    new = present()
    old = json.loads(FILE.read_text()) if FILE.exists() else {}
    found = list(changes(old, new)) if FILE.exists() else []
    if os.environ.get("GOLDEN") == "write" and not (
        released() and any(not change.safe for change in found)
    ):
        FILE.write_text(json.dumps(new, indent=1, sort_keys=True) + "\n")
        return
    assert FILE.exists(), f"schema {SCHEMA} has no file: {WRITE}"
    assert not found, "the contract has changed:\n" + "\n".join(map(str, found))
    assert old == new, f"the contract has changed: {WRITE}"


OLD: dict[str, Any] = {
    "Mode": {"enum": ["A"]},
    "Part": {
        "properties": {
            "mode": {"$ref": "Mode"},
            "kind": {"anyOf": [{"oneOf": [{"$ref": "A"}]}, {"type": "null"}]},
        }
    },
}


def changed(**part: Any) -> dict[str, Any]:
    return OLD | {"Part": {"properties": OLD["Part"]["properties"] | part}}


@pytest.mark.parametrize(
    ("new", "expected"),
    [
        (OLD, []),
        (OLD | {"Mode": {"enum": ["A", "B"]}}, [("Mode", False)]),
        (OLD | {"Other": {}}, [("Other", True)]),
        (changed(keep={"type": "integer"}), [("Part.keep", True)]),
        (changed(mode={"type": "string"}), [("Part.mode", False)]),
        (
            changed(kind={"anyOf": [{"oneOf": [{"$ref": "A"}, {"$ref": "B"}]}, {"type": "null"}]}),
            [("Part.kind", True)],
        ),
        (changed(kind={"anyOf": [{"oneOf": []}, {"type": "null"}]}), [("Part.kind", False)]),
        (OLD | {"Part": {"properties": {"mode": {"$ref": "Mode"}}}}, [("Part.kind", False)]),
    ],
)
def test_what_an_older_reader_can_ignore(
    new: dict[str, Any], expected: list[tuple[str, bool]]
) -> None:
    assert [(change.where, change.safe) for change in changes(OLD, new)] == expected
