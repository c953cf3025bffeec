"""Parses a document (a dict from YAML or the API server) into a model, or into a list of problems
that a person can act on. Pure.

All code that reads resources uses `parse`. It ignores unknown fields in metadata and status, and is
strict with the spec: the problem of a misspelt field gives its path.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from mailrelay_operator.api.maildomain import MailDomain
from mailrelay_operator.api.mailrelay import MailRelay
from mailrelay_operator.api.mailsender import MailSender
from mailrelay_operator.api.metadata import API_VERSION, GROUP
from mailrelay_operator.api.shape import (
    Problem,
    camel,
    find_forbidden_changes,
    find_problems,
    list_keys,
)

Resource = MailRelay | MailSender | MailDomain

KINDS: Mapping[str, type[Resource]] = {
    "MailRelay": MailRelay,
    "MailSender": MailSender,
    "MailDomain": MailDomain,
}


_QUOTED = re.compile(r"'([^']*)'")


class InvalidResource(ValueError):
    """A document that is not one of the API's resources, or breaks their rules; `problems` lists
    everything wrong.
    """

    def __init__(self, kind: str, namespace: str, name: str, problems: Sequence[Problem]) -> None:
        """Describe the object and its problems."""
        self.kind = kind
        self.namespace = namespace
        self.name = name
        self.problems = tuple(problems)
        super().__init__(f"{kind} {namespace}/{name}: {self.sentence}")

    @property
    def sentence(self) -> str:
        """All problems in one line, for a condition's message."""
        return "; ".join(str(problem) for problem in self.problems)


def parse(document: Mapping[str, Any]) -> Resource:
    """Read a MailRelay, MailSender or MailDomain. Raises InvalidResource with every problem of its
    shape or, if there is none, of its rules.
    """
    resource = read_shape(document)
    problems = validate(resource)
    if problems:
        raise InvalidResource(
            resource.kind, resource.metadata.namespace, resource.metadata.name, problems
        )
    return resource


def read_shape(document: Mapping[str, Any]) -> Resource:
    """Like `parse` without the rules: for resources that an API server stored under an older
    CRD.
    """
    kind, namespace, name = _identify(document)
    model = KINDS.get(kind)
    if model is None:
        close = closest(kind, KINDS)
        known = f"did you mean {close}?" if close else f"known kinds: {', '.join(KINDS)}."
        unknown = Problem(path="kind", value=kind, message=f"{GROUP} has no such kind; {known}")
        raise InvalidResource(kind, namespace, name, [unknown])
    if document.get("apiVersion") != API_VERSION:
        seen = document.get("apiVersion")
        wrong = Problem(path="apiVersion", value=seen, message=f"Must be {API_VERSION}.")
        raise InvalidResource(kind, namespace, name, [wrong])
    pruned = _without_nulls(document)
    try:
        return model.model_validate(pruned, by_alias=True, by_name=False)
    except ValidationError as error:
        found = error.errors(include_url=False)
    if all(detail["loc"][:1] == ("status",) for detail in found):
        # The operator writes the status; one of another version is no reason to refuse the object.
        bare = {key: value for key, value in pruned.items() if key != "status"}
        return model.model_validate(bare, by_alias=True, by_name=False)
    problems = [
        _problem(model, pruned, detail)
        for detail in found
        if _is_worth_saying(model, detail, found)
    ]
    raise InvalidResource(kind, namespace, name, problems)


def validate(resource: Resource) -> list[Problem]:
    """Every broken rule, as the API server's CEL reports it."""
    return list(find_problems(resource))


def validate_update(new: Resource, old: Resource) -> list[Problem]:
    """Every forbidden change from `old` to `new`, as the API server's CEL reports it."""
    return list(find_forbidden_changes(new, old))


def _identify(document: Mapping[str, Any]) -> tuple[str, str, str]:
    metadata = document.get("metadata")
    metadata = metadata if isinstance(metadata, Mapping) else {}
    kind = str(document.get("kind") or "object without kind")
    return kind, str(metadata.get("namespace") or "default"), str(metadata.get("name") or "?")


def _without_nulls(value: Any) -> Any:
    """Drop `key: null` everywhere, as the API server does for fields that are not nullable (no
    field of this API is).
    """
    if isinstance(value, Mapping):
        return {key: _without_nulls(one) for key, one in value.items() if one is not None}
    if isinstance(value, list):
        return [_without_nulls(one) for one in value]
    return value


def _problem(model: type[BaseModel], document: Mapping[str, Any], detail: ErrorDetails) -> Problem:
    path = _path(model, document, detail["loc"])
    return Problem(path=path, value=_seen(detail), message=_sentence(model, detail))


def _is_worth_saying(
    model: type[BaseModel], detail: ErrorDetails, found: Sequence[ErrorDetails]
) -> bool:
    """False for the status, for a list that is too short because its entries are broken, and for a
    missing field whose misspelt name is reported."""
    here = detail["loc"]
    if detail["type"] == "missing" and any(
        other["type"] == "extra_forbidden"
        and other["loc"][:-1] == here[:-1]
        and closest(str(other["loc"][-1]), _siblings(model, here[:-1])) == here[-1]
        for other in found
    ):
        return False
    below = any(other["loc"][: len(here)] == here for other in found if other is not detail)
    return here[:1] != ("status",) and not (detail["type"] == "too_short" and below)


def _seen(detail: ErrorDetails) -> object:
    return None if detail["type"] in {"missing", "extra_forbidden"} else detail["input"]


def _path(model: type[BaseModel], document: Any, location: tuple[int | str, ...]) -> str:
    """`spec.listeners[web].port` from pydantic's location; an entry is called by its list's key."""
    path, at = "", document
    keys: list[str] = []
    struct: Any = model
    for step in location:
        if isinstance(step, int):
            at = at[step] if isinstance(at, list) and step < len(at) else None
            names = [at.get(key) for key in keys] if isinstance(at, Mapping) else [None]
            known = names and all(isinstance(name, str) for name in names)
            path += f"[{'/'.join(map(str, names)) if known else step}]"
        else:
            at = at.get(step) if isinstance(at, Mapping) else None
            path += f".{step}" if path else step
            info = _fields(struct).get(step)
            keys = list_keys(info) if info else []
            struct = _struct_within(info.annotation) if info else None
    return path


def _sentence(model: type[BaseModel], detail: ErrorDetails) -> str:
    context = detail.get("ctx", {})
    seen = detail.get("input")
    match detail["type"]:
        case "sentence":
            return str(context["sentence"])
        case "missing":
            return "This field is required."
        case "extra_forbidden":
            known = _siblings(model, detail["loc"][:-1])
            close = closest(str(detail["loc"][-1]), known)
            hint = (
                f"did you mean {close}?"
                if close
                else f"known fields: {', '.join(known) or 'none'}."
            )
            return f"Unknown field; {hint}"
        case "literal_error" | "enum":
            expected = str(context["expected"])
            close = closest(str(seen), _QUOTED.findall(expected))
            return f"Must be {expected}{f'; did you mean {close}?' if close else '.'}"
        case "int_type" | "int_from_float" | "int_parsing":
            if isinstance(seen, str) and seen.strip().isdecimal():
                return f"Must be a whole number: write {seen.strip()} without quotes."
            return "Must be a whole number."
        case "bool_type" | "bool_parsing":
            if isinstance(seen, str) and seen.lower() in ("true", "false"):
                return f"Must be true or false: write {seen.lower()} without quotes."
            return "Must be true or false."
        case "string_type":
            if isinstance(seen, bool | int | float):
                return f'Must be a string: write "{str(seen).lower()}", with quotes.'
            return "Must be a string."
        case "tuple_type" | "list_type":
            return "Must be a list."
        case "dict_type":
            return "Must be a map of strings."
        case "model_type" | "model_attributes_type":
            fields = list(_fields(_struct_at(model, detail["loc"])))
            if isinstance(seen, str) and "name" in fields:
                return f"Must be an object: write {{name: {seen}}}."
            return f"Must be an object with fields ({', '.join(fields)})."
        case "greater_than_equal":
            return f"Must be at least {context['ge']}."
        case "less_than_equal":
            return f"Must be at most {context['le']}."
        case "string_too_short":
            return f"Must have at least {context['min_length']} characters."
        case "string_too_long":
            return f"Must have at most {context['max_length']} characters."
        case "too_short":
            return f"Must have at least {context['min_length']} entries."
        case "too_long":
            return f"Must have at most {context['max_length']} entries."
        case _:
            return f"{detail['msg']}."


def _siblings(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """The known fields at the place of an unknown one."""
    return list(_fields(_struct_at(model, location)))


def _struct_at(model: type[BaseModel], location: tuple[int | str, ...]) -> Any:
    struct: Any = model
    for step in location:
        if isinstance(step, str):
            info = _fields(struct).get(step)
            struct = _struct_within(info.annotation) if info else None
    return struct


def closest(text: str, known: Iterable[str]) -> str:
    """The closest known word, ignoring case; "" if none is close."""
    by_lower = {one.lower(): one for one in known}
    close = difflib.get_close_matches(text.lower(), by_lower, n=1)
    return by_lower[close[0]] if close else ""


def _fields(struct: Any) -> dict[str, FieldInfo]:
    """The fields of a struct by their name in the API; none if it is not a struct."""
    if not (isinstance(struct, type) and issubclass(struct, BaseModel)):
        return {}
    return {camel(name): info for name, info in struct.model_fields.items()}


def _struct_within(annotation: Any) -> Any:
    """The struct in `Struct`, `Struct | None` or `tuple[Struct, ...]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        found = _struct_within(argument)
        if found is not None:
            return found
    return None
