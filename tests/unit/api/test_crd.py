"""The CRDs are what the models say, and the models say nothing that a structural schema cannot."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import pytest
import yaml
from pydantic import Field

from mailrelay_operator.api.crd import (
    NotStructural,
    chart_yaml,
    crd_files,
    definition,
    main,
    structural_schema,
)
from mailrelay_operator.api.parsing import KINDS
from mailrelay_operator.api.shape import Struct, rule

ROOT = Path(__file__).resolve().parents[3]
CRDS = ROOT / "crds"
CHART = ROOT / "charts/mailrelay/templates/crds"


@pytest.mark.parametrize(("path", "text"), list(crd_files(CRDS, CHART)), ids=lambda x: str(x)[-40:])
def test_the_committed_files_are_current(path: Path, text: str) -> None:
    assert path.read_text() == text, "run `make crds`"


def test_the_program_writes_and_checks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    crds, chart = tmp_path / "crds", tmp_path / "chart"
    arguments = [str(crds), str(chart)]
    assert main(arguments) == 0
    assert main(["--check", *arguments]) == 0
    stale = chart / "mailsenders.yaml"
    stale.write_text(stale.read_text().replace("msender", "sender"))
    capsys.readouterr()
    assert main(["--check", *arguments]) == 1
    said = capsys.readouterr().err
    assert "-    - sender" in said
    assert "run `make crds`" in said
    assert main(arguments) == 0
    assert main(["--check", *arguments]) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_the_chart_keeps_crds_and_can_leave_them_out(kind: str) -> None:
    lines = chart_yaml(kind).splitlines()
    assert lines[1] == "{{- if .Values.crds.enabled }}"
    assert lines[-1] == "{{- end }}"
    inner = yaml.safe_load("\n".join(lines[2:-1]))
    assert inner["metadata"].pop("annotations") == {"helm.sh/resource-policy": "keep"}
    assert inner == definition(kind)


class Port(Struct):
    """A port."""

    number: Annotated[int, Field(ge=1, le=9)] = Field(7, description="The number.")
    label: str | None = Field(None, max_length=5, description="The label.")

    @rule("self.number != 3", "Not 3.", field="number")
    def is_not_3(self) -> bool:
        """Make sure it is not 3."""
        return self.number != 3


class Host(Struct):
    """A host."""

    port: Port = Field(Port(), description="Port to connect to.")
    ports: tuple[Port, ...] = Field((), max_length=2, description="Its other ports.")
    tags: dict[str, str] = Field(default_factory=dict, max_length=3, description="Its tags.")


def test_a_schema_is_inline_without_nulls_and_titles() -> None:
    port = {
        "type": "object",
        "properties": {
            "number": {
                "description": "The number.",
                "type": "integer",
                "default": 7,
                "minimum": 1,
                "maximum": 9,
            },
            "label": {"description": "The label.", "type": "string", "maxLength": 5},
        },
        "x-kubernetes-validations": [
            {"rule": "self.number != 3", "message": "Not 3.", "fieldPath": ".number"}
        ],
    }
    assert structural_schema(Host) == {
        "type": "object",
        "description": "A host.",
        "properties": {
            "port": port | {"description": "Port to connect to.", "default": {"number": 7}},
            "ports": {
                "description": "Its other ports.",
                "type": "array",
                "items": port | {"description": "A port."},
                "maxItems": 2,
            },
            "tags": {
                "description": "Its tags.",
                "type": "object",
                "additionalProperties": {"type": "string"},
                "maxProperties": 3,
            },
        },
    }


class Choice(Struct):
    """Says too much."""

    value: int | str = Field(description="Either.")


class Exclusive(Struct):
    """Says too much."""

    value: int = Field(gt=0, description="More than 0.")


class Silent(Struct):
    """Says too little."""

    value: int


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        (Choice, "Choice.value: a choice of types"),
        (Exclusive, "Exclusive.value: exclusiveMinimum has no place"),
        (Silent, "Silent.value: has no description"),
    ],
)
def test_what_a_structural_schema_cannot_say_is_an_error(
    model: type[Struct], sentence: str
) -> None:
    with pytest.raises(NotStructural, match=sentence):
        structural_schema(model)


def parts(schema: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, part in schema.get("properties", {}).items():
        yield from parts(part, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if key in schema:
            yield from parts(schema[key], f"{path}[]")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("half", ["spec", "status"])
def test_everything_is_bounded_and_described(kind: str, half: str) -> None:
    schema = definition(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    for path, part in parts(schema["properties"][half], half):
        match part["type"]:
            case "string":
                assert "maxLength" in part or "enum" in part, path
            case "array":
                assert "maxItems" in part, path
                assert "x-kubernetes-list-type" in part, path
            case "object" if "additionalProperties" in part:
                assert "maxProperties" in part, path
            case "integer" if half == "spec":
                assert "minimum" in part, path
                assert "maximum" in part, path
        if not path.endswith("[]"):
            assert part["description"].endswith("."), path
