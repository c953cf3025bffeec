"""What every model of the API is made of: frozen structs in camelCase, and rules known to CEL and
to Python alike. Pure.

Defines Struct, the decorators `rule`, `transition` and `beyond_cel`, the annotation TextRule, and
`find_problems`, but no fields. A rule's CEL expression is right above its Python twin, because both
must agree: the API server runs the first, `mailrelay up` and the operator (with an older CRD) the
second. A corpus of documents tests that they do.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.fields import FieldInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

#: Field(json_schema_extra=...) of lists: by name, of distinct values, or replaced as a whole.
NAMED: dict[str, Any] = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}
DISTINCT: dict[str, Any] = {"x-kubernetes-list-type": "set"}
ATOMIC: dict[str, Any] = {"x-kubernetes-list-type": "atomic"}

# Kubernetes' API conventions: initialisms keep their case, except as the first word.
_INITIALISMS = {"arn": "ARN", "ca": "CA", "cidrs": "CIDRs", "id": "ID", "url": "URL"}

_Method = TypeVar("_Method", bound=Callable[..., bool])


def are_distinct(texts: Iterable[str]) -> bool:
    """Whether no text occurs twice."""
    given = list(texts)
    return len(set(given)) == len(given)


@cache
def camel(name: str) -> str:
    """The API's name of a Python field: `client_ca_ref` is `clientCARef`, `from_` is `from`."""
    first, *rest = name.rstrip("_").split("_")
    return first + "".join(_INITIALISMS.get(word, word.capitalize()) for word in rest)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule of a struct: `cel` over `self` (and `oldSelf`), its Python twin `check`, and the
    message of both.

    `field` is the camelCase field of the struct that a problem is reported at; empty for the
    struct itself. A rule without `cel` is checked by the operator and the CLI only.
    """

    name: str
    cel: str
    message: str
    field: str
    transition: bool
    check: Callable[..., bool]

    def as_schema(self) -> dict[str, str]:
        """The entry of x-kubernetes-validations."""
        entry = {"rule": self.cel, "message": self.message}
        # A schema cannot name fields of metadata.
        if not self.field or self.field.startswith("metadata."):
            return entry
        return entry | {"fieldPath": f".{self.field}"}


def rule(cel: str, message: str, *, field: str = "") -> Callable[[_Method], _Method]:
    """Mark a method `(self) -> bool` as the twin of this CEL rule."""
    return _marking(cel, message, field, transition=False)


def beyond_cel(message: str, *, field: str = "") -> Callable[[_Method], _Method]:
    """Mark a method `(self) -> bool` as a rule that the API server cannot enforce: a schema cannot
    bound the keys of a map, and CEL refuses rules of unbounded cost. The API server stores a
    resource that breaks it, and the operator refuses it (Accepted=False, Invalid).
    """
    return _marking("", message, field, transition=False)


def transition(cel: str, message: str, *, field: str = "") -> Callable[[_Method], _Method]:
    """Mark a method `(self, old) -> bool` as the twin of this CEL rule, which also uses
    `oldSelf`.
    """
    return _marking(cel, message, field, transition=True)


def _marking(
    cel: str, message: str, field: str, *, transition: bool
) -> Callable[[_Method], _Method]:
    def mark(method: _Method) -> _Method:
        made = Rule(
            name=method.__name__,
            cel=" ".join(cel.split()),
            message=message,
            field=field,
            transition=transition,
            check=method,
        )
        method.__dict__["api_rule"] = made
        return method

    return mark


def rules_of(model: type[BaseModel]) -> tuple[Rule, ...]:
    """The rules of a struct, in source order."""
    return _collect_rules(model)


@cache
def _collect_rules(model: Any) -> tuple[Rule, ...]:
    members = (value for owner in reversed(model.__mro__) for value in vars(owner).values())
    found = (getattr(member, "api_rule", None) for member in members if callable(member))
    return tuple(one for one in found if isinstance(one, Rule))


def _add_rules(schema: dict[str, Any], model: type[Any]) -> None:
    if rules := [one.as_schema() for one in rules_of(model) if one.cel]:
        schema["x-kubernetes-validations"] = rules


class Struct(BaseModel):
    """A part of a spec: frozen, camelCase in documents; an unknown field is an error."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=camel,
        validate_by_name=True,
        validate_by_alias=True,
        json_schema_extra=_add_rules,
    )


class Observed(Struct):
    """A part of a status: unknown fields, written by a newer operator, are ignored."""

    model_config = ConfigDict(extra="ignore")


@dataclass(frozen=True, slots=True, kw_only=True)
class TextRule:
    """A rule of one string, used in `Annotated[str, ..., TextRule(...)]`: CEL for the API server,
    `holds` for Python.
    """

    cel: str
    message: str
    holds: Callable[[Any], bool]

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Check `holds` after the type."""

        def read(text: str) -> str:
            if not self.holds(text):
                raise PydanticCustomError("sentence", "{sentence}", {"sentence": self.message})
            return text

        return core_schema.no_info_after_validator_function(read, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Add the CEL rule to the schema."""
        shown = handler(schema)
        shown.setdefault("x-kubernetes-validations", []).append(
            {"rule": self.cel, "message": self.message}
        )
        return shown


def matching(pattern: str, message: str) -> TextRule:
    """A TextRule that the whole string matches `pattern` (in the common subset of RE2 and `re`,
    without double quotes).
    """
    compiled = re.compile(pattern, re.ASCII)
    return TextRule(
        cel=f'self.matches(r"^({pattern})$")',
        message=message,
        holds=lambda text: compiled.fullmatch(text) is not None,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Something wrong with a resource: the path (`spec.listeners[web].port`), the value seen, and
    what to do.
    """

    path: str
    value: object
    message: str

    def __str__(self) -> str:
        """One line for a person."""
        seen = f" ({self.value!r})" if isinstance(self.value, str | int) else ""
        return f"{self.path}{seen}: {self.message}"


def find_problems(model: BaseModel, path: str = "") -> Iterator[Problem]:
    """Every broken rule and duplicate entry in a struct and the structs nested in it; `path` is the
    struct's.
    """
    for one in rules_of(type(model)):
        if not one.transition and not one.check(model):
            yield _problem(model, path, one)
    for name, value in _parts(model):
        if not isinstance(value, BaseModel | tuple):
            continue
        where = f"{path}.{camel(name)}" if path else camel(name)
        if isinstance(value, BaseModel):
            yield from find_problems(value, where)
        elif isinstance(value, tuple):
            labels = entry_labels(model, name, value)
            yield from _repeated(model, name, labels, where)
            for label, entry in zip(labels, value, strict=True):
                if isinstance(entry, BaseModel):
                    yield from find_problems(entry, f"{where}[{label}]")


def find_forbidden_changes(new: BaseModel, old: BaseModel, path: str = "") -> Iterator[Problem]:
    """Every transition rule that an update from `old` to `new` breaks; structs inside lists have
    none.
    """
    for one in rules_of(type(new)):
        if one.transition and not one.check(new, old):
            yield _problem(new, path, one)
    for name, value in _parts(new):
        before = getattr(old, name)
        if isinstance(value, BaseModel) and isinstance(before, BaseModel):
            yield from find_forbidden_changes(
                value, before, f"{path}.{camel(name)}" if path else camel(name)
            )


def entry_labels(model: BaseModel, field: str, entries: tuple[Any, ...]) -> list[str]:
    """The text in `[...]` for each entry of a list: its key where the list has keys, otherwise its
    index.
    """
    keys = list_keys(type(model).model_fields[field])
    if not keys:
        return [str(number) for number in range(len(entries))]
    return ["/".join(str(_by_alias(entry, key)) for key in keys) for entry in entries]


def _problem(model: BaseModel, path: str, broken: Rule) -> Problem:
    if not broken.field:
        return Problem(path=path, value=None, message=broken.message)
    where = f"{path}.{broken.field}" if path else broken.field
    return Problem(path=where, value=_by_alias(model, broken.field), message=broken.message)


def _parts(model: BaseModel) -> Iterator[tuple[str, Any]]:
    for name in _field_names(type(model)):
        yield name, getattr(model, name)


@cache
def _field_names(model: type[BaseModel]) -> tuple[str, ...]:
    return tuple(model.model_fields)


def _by_alias(model: BaseModel, path: str) -> Any:
    value: Any = model
    for alias in path.split("."):
        by_alias = {camel(name): name for name in type(value).model_fields}
        value = getattr(value, by_alias[alias], None)
        if not isinstance(value, BaseModel):
            return value
    return None


def list_keys(field: FieldInfo) -> list[str]:
    """The fields that identify the entries of a list; none if the index does."""
    keys: list[str] = _extra(field).get("x-kubernetes-list-map-keys", [])
    return keys


def _extra(field: FieldInfo) -> dict[str, Any]:
    extra = field.json_schema_extra
    return extra if isinstance(extra, dict) else {}


def _repeated(model: BaseModel, field: str, labels: list[str], where: str) -> Iterator[Problem]:
    kind = _extra(type(model).model_fields[field]).get("x-kubernetes-list-type")
    seen = labels if kind == "map" else list(getattr(model, field)) if kind == "set" else []
    for number, label in enumerate(seen):
        if label in seen[:number]:
            yield Problem(
                path=f"{where}[{number}]", value=label, message="Duplicate entry: remove one."
            )
