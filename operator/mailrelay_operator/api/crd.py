"""From the models to CustomResourceDefinitions: structural schemas, columns, subresources, and the
files that hold them.

    python -m mailrelay_operator.api.crd [--check] CRDS [CHART]

writes CRDS/mailrelays.yaml, mailsenders.yaml and maildomains.yaml, and the chart's copies of them
into CHART (default: charts/mailrelay/templates/crds beside CRDS, if that chart exists). --check
writes nothing, and fails with a diff where a file does not match the models. Everything but `main`
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

#: What `--field-selector` accepts besides name and namespace; strings only.
SELECTABLE = {
    "MailRelay": (".spec.hostname",),
    "MailSender": (".spec.relayRef.name", ".spec.relayRef.namespace"),
    "MailDomain": (".spec.relayRef.name", ".spec.relayRef.namespace", ".spec.domain"),
}

#: The keywords of pydantic's schema that a structural schema may hold; any other is an error.
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
#: Values that mean the same as an absent field.
_ABSENT: tuple[Any, ...] = (None, {}, [], "")
_DROPPED = frozenset({"title"})


class NotStructural(ValueError):
    """A model cannot be expressed as a structural schema."""


class _Schema(GenerateJsonSchema):
    """Defaults in full, because the API server validates a default by its rules before it applies
    the nested defaults.
    """

    def encode_default(self, dft: Any) -> Any:
        return _in_full(dft)


def _in_full(value: Any) -> Any:
    """A default with everything nested in it, except what means the same when absent."""
    if isinstance(value, BaseModel):
        fields = {camel(name): _in_full(getattr(value, name)) for name in type(value).model_fields}
        return {name: part for name, part in fields.items() if part not in _ABSENT}
    if isinstance(value, tuple):
        return [_in_full(entry) for entry in value]
    return to_jsonable_python(value)


def structural_schema(model: type[BaseModel]) -> dict[str, Any]:
    """The structural schema of a model, as Kubernetes requires it: no $ref, nothing nullable, no
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
    """The node with its $ref, if any, replaced by the definition; keywords beside the $ref take
    precedence.
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
    """An absent field means the same as an empty one, unless a rule requires its presence."""
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
    """The columns of `kubectl get`; priority 1 with `-o wide` only."""
    first = [
        _column("Ready", _condition("Ready", "status"), "Whether the object is ready."),
        _column("Reason", _condition("Ready", "reason"), "Reason of Ready, in one word."),
    ]
    if kind == "MailRelay":
        first[0] = _column("Ready", ".status.ready", "Ready and desired gateway pods.")
    last = [
        _column("Message", _condition("Ready", "message"), "Message of Ready.", priority=1),
        _column("Age", ".metadata.creationTimestamp", "Time since creation.", type_="date"),
    ]
    match kind:
        case "MailRelay":
            own = [
                _column(
                    "Senders", ".status.attachedSenders", "Admitted MailSenders.", type_="integer"
                ),
                _column("Queue", ".status.queue.messages", "Queued messages.", type_="integer"),
                _column(
                    "Oldest",
                    ".status.queue.oldest",
                    "Age of the oldest queued message.",
                    type_="date",
                    priority=1,
                ),
                _column("Host", ".status.endpoint.host", "Where clients log in.", priority=1),
                _column("Hostname", ".spec.hostname", "Name in the SMTP greeting.", priority=1),
            ]
        case "MailSender":
            own = [
                _column("Relay", ".spec.relayRef.name", "Its MailRelay."),
                _column("Username", ".status.username", "Username to log in with."),
                _column(
                    "Secret", ".status.secretName", "Secret with a client's connection settings."
                ),
                _column("Host", ".status.endpoint.host", "Host to connect to.", priority=1),
                _column(
                    "Port",
                    ".status.endpoint.port",
                    "Port to connect to.",
                    type_="integer",
                    priority=1,
                ),
                _column("From", ".spec.from", "Addresses it may send as.", priority=1),
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
    spec = _part(model, "spec", "Desired state.")
    status = _part(model, "status", "Observed state; written by the operator only.")
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
    """The operator writes the whole status, so only its conditions have a default."""
    if isinstance(schema, dict):
        schema.pop("default", None)
        for value in schema.values():
            _drop_defaults(value)


class _Dumper(yaml.SafeDumper):
    """YAML without anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def crd_yaml(kind: str) -> str:
    """The CRD of a kind as YAML text."""
    return HEADER + yaml.dump(definition(kind), Dumper=_Dumper, sort_keys=False, width=120)


def chart_yaml(kind: str) -> str:
    """The chart's copy: kept when the release is uninstalled, left out when crds.enabled is
    false.
    """
    made = definition(kind)
    made["metadata"]["annotations"] = {"helm.sh/resource-policy": "keep"}
    text = yaml.dump(made, Dumper=_Dumper, sort_keys=False, width=120)
    # Helm treats `{{` as a template action anywhere in the file.
    text = text.replace("{{", '{{ "{{" }}')
    return f"{HEADER}{{{{- if .Values.crds.enabled }}}}\n{text}{{{{- end }}}}\n"


def crd_files(crds: Path, chart: Path | None) -> Iterator[tuple[Path, str]]:
    """Every generated file and its text."""
    for kind in KINDS:
        yield crds / f"{kind.lower()}s.yaml", crd_yaml(kind)
        if chart is not None:
            yield chart / f"{kind.lower()}s.yaml", chart_yaml(kind)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write or check the files; 1 if one does not match the models."""
    parser = argparse.ArgumentParser(prog="python -m mailrelay_operator.api.crd")
    parser.add_argument("--check", action="store_true", help="compare only, write nothing")
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
        sys.stderr.write("The CRDs do not match the models: run `make crds`.\n")
    return int(stale)


if __name__ == "__main__":
    sys.exit(main())
