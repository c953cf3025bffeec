"""Pure. Removes invalid fields from a resource, so that the rest of it can be checked in the same
run.

The rest is never run or shown: it is used only to check references to the object. Parts that affect
other objects (who is admitted, where tenants log in) are replaced as a whole by permissive ones,
since a partial one would cause false problems elsewhere.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from mailrelay_operator.api.parsing import InvalidResource, parse
from mailrelay_operator.api.shape import Problem
from mailrelay_operator.api.unsupported import unsupported_fields
from mailrelay_operator.cli.documents import STEP
from mailrelay_operator.plan.objects import Manifest

#: Each round removes at least one field; a bound on the mistakes in one object.
MAX_ROUNDS = 100
_SUITS_EVERYBODY: dict[str, Any] = {
    "spec.allowedSenders": [{"name": "all", "namespaces": {"from": "All"}, "addresses": ["*"]}],
    "spec.listeners": [{"name": "submission", "port": 2525}],
    "spec.hostname": "stand-in.example.com",
}
_SANDBOX = [{"name": "capture", "sandbox": {}}]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rest:
    """The remaining object, if any, and further problems that were hidden by the first ones."""

    body: Manifest | None
    problems: tuple[Problem, ...] = ()
    unsupported: tuple[str, ...] = ()


def pruned(manifest: Manifest, paths: Iterable[str] = ()) -> Rest:
    """The object without these fields and without everything invalid or unsupported."""
    body: Manifest = copy.deepcopy(dict(manifest))
    removed = list(paths)
    problems: list[Problem] = []
    unsupported: list[str] = []
    found = list(removed)
    for _ in range(MAX_ROUNDS):
        if not all(_remove(body, path) for path in found):
            break
        removed += found
        try:
            resource = parse(body)
        except InvalidResource as error:
            problems += [one for one in error.problems if not _concerns(one.path, removed)]
            found = [one.path for one in error.problems]
            continue
        found = list(unsupported_fields(resource))
        unsupported += found
        if not found:
            return Rest(body=body, problems=tuple(problems), unsupported=tuple(unsupported))
        if not all(path.startswith("spec.") for path in found):
            break  # the kind as a whole
    return Rest(body=None, problems=tuple(problems), unsupported=tuple(unsupported))


def _concerns(path: str, removed: Collection[str]) -> bool:
    """Whether a problem at `path` may be caused by a removal: a rule concerns a whole struct, and
    is reported at the struct or one of its fields."""
    struct = path.rpartition(".")[0]
    return any(one == struct or one.startswith((f"{struct}.", f"{struct}[")) for one in removed)


def _remove(body: Manifest, path: str) -> bool:
    """Remove the field at this path, or its parent if the field is missing; whether there was
    anything to remove."""
    spec = body.get("spec")
    if not isinstance(spec, dict) or not path.startswith("spec."):
        return False
    for part, instead in _SUITS_EVERYBODY.items():
        if path == part or path.startswith((f"{part}.", f"{part}[")):
            if body["kind"] != "MailRelay":
                break
            name = part.partition(".")[2]
            if spec.get(name) == instead:
                return False
            spec[name] = copy.deepcopy(instead)
            return True
    deleted = _delete(body, path)
    if body["kind"] == "MailRelay" and not spec.get("upstreams"):
        spec["upstreams"] = copy.deepcopy(_SANDBOX)
        return True
    return deleted


def _delete(body: Manifest, path: str) -> bool:
    """Delete the deepest existing node of the path: the field, or the list entry or object that
    lacks it; never the spec itself."""
    at: Any = body
    deepest: tuple[Any, Any] | None = None
    for name, label in STEP.findall(path):
        key: Any = name or _index(at, label)
        try:
            below = at[key]
        except (KeyError, IndexError, TypeError):
            break
        if at is not body:
            deepest = at, key
        at = below
    if deepest is None:
        return False
    holder, key = deepest
    del holder[key]
    return True


def _index(entries: Any, label: str) -> int | None:
    if not isinstance(entries, list):
        return None
    for number, entry in enumerate(entries):
        if isinstance(entry, dict) and entry.get("name") == label:
            return number
    return int(label) if label.isdecimal() else None
