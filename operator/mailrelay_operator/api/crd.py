"""From the models to CustomResourceDefinitions: structural schemas, columns, subresources, and the
files that hold them.

    python -m mailrelay_operator.api.crd [--check] CRDS [CHART]

writes CRDS/mailrelays.yaml, mailsenders.yaml and maildomains.yaml, and the chart's copies of them
into CHART (left out: charts/mailrelay/templates/crds beside CRDS, if that chart is there). --check
writes nothing, and fails with a diff where a file is not what the models say. Everything but `main`
is pure.
"""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import to_jsonable_python

from mailrelay_operator.api.conditions import initial_conditions
from mailrelay_operator.api.metadata import CATEGORY, GROUP, VERSION
from mailrelay_operator.api.parsing import KINDS
from mailrelay_operator.api.shape import camel, rules_of

HEADER = "# Generated from operator/mailrelay_operator/api by `make crds`. Do not edit.\n"
CHART_FOLDER = Path("charts/mailrelay/templates/crds")

SHORT_NAMES = {"MailRelay": "mrelay", "MailSender": "msender", "MailDomain": "mdomain"}

#: What `--field-selector` takes, beside name and namespace; strings only.
SELECTABLE = {
    "MailRelay": (".spec.hostname",),
    "MailSender": (".spec.relayRef.name", ".spec.relayRef.namespace"),
    "MailDomain": (".spec.relayRef.name", ".spec.relayRef.namespace", ".spec.domain"),
}

#: What a structural schema may hold, of what pydantic writes; all else is an error, not a loss.
_KEPT = frozenset(
    {
        "default",
        "description",
        "enum",
        "format",
        "maxItems",
        "maxLength",
        "maxProperties",
        "maximum",
        "minItems",
        "minLength",
        "minimum",
        "pattern",
        "required",
        "type",
    }
)
#: What an absent field means.
_ABSENT: tuple[Any, ...] = (None, {}, [], "")
_DROPPED = frozenset({"title"})


class NotStructural(ValueError):
    """A model says something that a structural schema cannot."""


class _Schema(GenerateJsonSchema):
    """Defaults in full, because the API server checks a default by its rules before it fills in
    what is below.
    """

    def encode_default(self, dft: Any) -> Any:
        return _in_full(dft)


def _in_full(value: Any) -> Any:
    """A default with all below it, but without what means the same when it is absent."""
    if isinstance(value, BaseModel):
        fields = {camel(name): _in_full(getattr(value, name)) for name in type(value).model_fields}
        return {name: part for name, part in fields.items() if part not in _ABSENT}
    if isinstance(value, tuple):
        return [_in_full(entry) for entry in value]
    return to_jsonable_python(value)


def structural_schema(model: type[BaseModel]) -> dict[str, Any]:
    """The schema of a model as Kubernetes wants it: nothing referred to, nothing nullable, no
    titles.
    """
    schema = model.model_json_schema(schema_generator=_Schema)
    return _structural(schema, schema.get("$defs", {}), model.__name__)


def _structural(
    node: Mapping[str, Any], definitions: Mapping[str, Any], path: str
) -> dict[str, Any]:
    node = _inlined(node, definitions, path)
    made: dict[str, Any] = {}
    for key, value in node.items():
        match key:
            case "properties":
                made[key] = {
                    name: _property(part, definitions, f"{path}.{name}")
                    for name, part in value.items()
                }
            case "items":
                made[key] = _ordered(_structural(value, definitions, f"{path}[]"))
            case "additionalProperties" if isinstance(value, Mapping):
                made[key] = _structural(value, definitions, f"{path}[*]")
            case "additionalProperties" | "$defs":
                pass  # `false`: unknown fields are pruned or refused by the server in any case
            case "const":
                made["enum"] = [value]
            case _ if key in _KEPT or key.startswith("x-kubernetes-"):
                made[key] = value
            case _ if key not in _DROPPED:
                raise NotStructural(f"{path}: {key} has no place in a structural schema")
    if "type" not in made:
        raise NotStructural(f"{path}: has no type")
    return made


def _inlined(node: Mapping[str, Any], definitions: Mapping[str, Any], path: str) -> dict[str, Any]:
    """The node with its reference, if it is one, replaced by what it refers to; what stands
    beside it wins.
    """
    own = dict(node)
    if "anyOf" in own:
        choices = [choice for choice in own.pop("anyOf") if choice != {"type": "null"}]
        if len(choices) != 1:
            raise NotStructural(f"{path}: a choice of types")
        own = choices[0] | own
    if "$ref" in own:
        name = own.pop("$ref").removeprefix("#/$defs/")
        own = _inlined(definitions[name], definitions, path) | own
    return own


def _property(node: Mapping[str, Any], definitions: Mapping[str, Any], path: str) -> dict[str, Any]:
    made = _structural(node, definitions, path)
    if "description" not in made:
        raise NotStructural(f"{path}: has no description")
    if "default" in made and not _is_default_worth_storing(made):
        del made["default"]
    return _ordered(made)


def _is_default_worth_storing(schema: Mapping[str, Any]) -> bool:
    """An absent field means the same as an empty one, unless rules need it to be there."""
    default = schema["default"]
    return default not in _ABSENT or (default is not None and "x-kubernetes-validations" in schema)


def _ordered(schema: dict[str, Any]) -> dict[str, Any]:
    first = ("description", "type", "default", "enum", "required", "properties", "items")
    keys = [key for key in first if key in schema] + [key for key in schema if key not in first]
    return {key: schema[key] for key in keys}


def _condition(type_: str, field: str) -> str:
    return f'.status.conditions[?(@.type=="{type_}")].{field}'


def _column(
    name: str, path: str, description: str, *, type_: str = "string", priority: int = 0
) -> dict[str, Any]:
    column: dict[str, Any] = {"name": name, "type": type_, "description": description}
    if priority:
        column["priority"] = priority
    return column | {"jsonPath": path}


def _columns(kind: str) -> list[dict[str, Any]]:
    """What `kubectl get` shows; priority 1 with `-o wide` only."""
    first = [
        _column("Ready", _condition("Ready", "status"), "Whether it does what it is for."),
        _column("Reason", _condition("Ready", "reason"), "Why, as one word."),
    ]
    if kind == "MailRelay":
        first[0] = _column("Ready", ".status.ready", "Ready gateway pods and all that shall be.")
    last = [
        _column("Message", _condition("Ready", "message"), "Why, for a person.", priority=1),
        _column("Age", ".metadata.creationTimestamp", "Time since it was made.", type_="date"),
    ]
    match kind:
        case "MailRelay":
            own = [
                _column(
                    "Senders", ".status.attachedSenders", "Admitted MailSenders.", type_="integer"
                ),
                _column("Queue", ".status.queue.messages", "Queued messages.", type_="integer"),
                _column(
                    "Oldest", ".status.queue.oldest", "Age of the oldest.", type_="date", priority=1
                ),
                _column("Host", ".status.endpoint.host", "Where clients log in.", priority=1),
                _column("Hostname", ".spec.hostname", "Name that it greets with.", priority=1),
            ]
        case "MailSender":
            own = [
                _column("Relay", ".spec.relayRef.name", "Its MailRelay."),
                _column("Username", ".status.username", "Username to log in with."),
                _column("Secret", ".status.secretName", "Secret that holds all a client needs."),
                _column("Host", ".status.endpoint.host", "Where to connect to.", priority=1),
                _column("Port", ".status.endpoint.port", "Its port.", type_="integer", priority=1),
                _column("From", ".spec.from", "Addresses that it may send as.", priority=1),
            ]
        case _:
            own = [
                _column("Domain", ".spec.domain", "The domain."),
                _column("Relay", ".spec.relayRef.name", "Its MailRelay."),
                _column("DNS", _condition("DNSVerified", "status"), "Whether DNS has all records."),
            ]
    return first + own + last


def definition(kind: str) -> dict[str, Any]:
    """The CustomResourceDefinition of a kind."""
    model = KINDS[kind]
    spec = _part(model, "spec", "What is asked for.")
    status = _part(model, "status", "What the operator knows; written by it alone.")
    _drop_defaults(status)
    waiting = [
        condition.model_dump(by_alias=True, exclude_unset=True)
        for condition in initial_conditions(kind)
    ]
    status["default"] = {"conditions": waiting}
    schema: dict[str, Any] = {
        "description": model.__doc__,
        "type": "object",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": spec,
            "status": _ordered(status),
        },
    }
    if rules := [one.as_schema() for one in rules_of(model) if one.cel]:
        schema["x-kubernetes-validations"] = rules
    subresources: dict[str, Any] = {"status": {}}
    if kind == "MailRelay":
        subresources["scale"] = {
            "specReplicasPath": ".spec.replicas",
            "statusReplicasPath": ".status.replicas",
            "labelSelectorPath": ".status.selector",
        }
    plural = f"{kind.lower()}s"
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "names": {
                "kind": kind,
                "listKind": f"{kind}List",
                "plural": plural,
                "singular": kind.lower(),
                "shortNames": [SHORT_NAMES[kind]],
                "categories": [CATEGORY],
            },
            "scope": "Namespaced",
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "additionalPrinterColumns": _columns(kind),
                    "selectableFields": [{"jsonPath": path} for path in SELECTABLE[kind]],
                    "subresources": subresources,
                    "schema": {"openAPIV3Schema": schema},
                }
            ],
        },
    }


def _part(model: type[BaseModel], name: str, description: str) -> dict[str, Any]:
    part = model.model_fields[name].annotation
    assert isinstance(part, type)
    assert issubclass(part, BaseModel)
    return _ordered(structural_schema(part) | {"description": description})


def _drop_defaults(schema: Any) -> None:
    """A status is written whole by the operator: nothing but its conditions has a default."""
    if isinstance(schema, dict):
        schema.pop("default", None)
        for value in schema.values():
            _drop_defaults(value)


class _Dumper(yaml.SafeDumper):
    """YAML without anchors: equal parts are written out."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def crd_yaml(kind: str) -> str:
    """The file of a kind."""
    return HEADER + yaml.dump(definition(kind), Dumper=_Dumper, sort_keys=False, width=120)


def chart_yaml(kind: str) -> str:
    """The chart's copy: kept when the release is uninstalled, left out when crds.enabled is
    false.
    """
    made = definition(kind)
    made["metadata"]["annotations"] = {"helm.sh/resource-policy": "keep"}
    text = yaml.dump(made, Dumper=_Dumper, sort_keys=False, width=120)
    # Helm reads `{{` as its own wherever it stands.
    text = text.replace("{{", '{{ "{{" }}')
    return f"{HEADER}{{{{- if .Values.crds.enabled }}}}\n{text}{{{{- end }}}}\n"


def crd_files(crds: Path, chart: Path | None) -> Iterator[tuple[Path, str]]:
    """Every generated file and its text."""
    for kind in KINDS:
        yield crds / f"{kind.lower()}s.yaml", crd_yaml(kind)
        if chart is not None:
            yield chart / f"{kind.lower()}s.yaml", chart_yaml(kind)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write or check the files; 1 if one is not what the models say."""
    parser = argparse.ArgumentParser(prog="python -m mailrelay_operator.api.crd")
    parser.add_argument("--check", action="store_true", help="write nothing, compare")
    parser.add_argument("crds", type=Path, help="folder of the CRDs")
    parser.add_argument("chart", type=Path, nargs="?", help="folder of the chart's copies")
    given = parser.parse_args(arguments)
    beside = given.crds.resolve().parent / CHART_FOLDER
    chart = given.chart or (beside if beside.parents[1].is_dir() else None)
    stale = False
    for path, text in crd_files(given.crds, chart):
        before = path.read_text() if path.exists() else ""
        if before == text:
            continue
        if given.check:
            stale = True
            diff = difflib.unified_diff(
                before.splitlines(True), text.splitlines(True), str(path), "from the models"
            )
            sys.stderr.writelines(diff)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            sys.stdout.write(f"wrote {path}\n")
    if stale:
        sys.stderr.write("The CRDs are not what the models say: run `make crds`.\n")
    return int(stale)


if __name__ == "__main__":
    sys.exit(main())
