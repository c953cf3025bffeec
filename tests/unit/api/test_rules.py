"""What is valid is taken, what breaks a rule is named with its path and a sentence."""

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel

from mailrelay_operator.api.crd import definition
from mailrelay_operator.api.parsing import (
    KINDS,
    InvalidResource,
    parse,
    read_shape,
    validate,
    validate_update,
)
from mailrelay_operator.api.shape import Rule, rules_of
from tests.unit.api.corpus import BAD, CHANGES, GOOD, Bad, Change
from tests.unit.api.documents import (
    listening,
    relay,
)


@pytest.mark.parametrize("name", GOOD)
def test_a_good_resource_is_taken(name: str) -> None:
    resource = parse(GOOD[name])
    assert validate(resource) == []


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.name)
def test_a_bad_resource_is_refused_with_its_path_and_a_sentence(bad: Bad) -> None:
    with pytest.raises(InvalidResource) as refusal:
        parse(bad.document)
    said = {problem.path: problem.message for problem in refusal.value.problems}
    assert bad.sentence in said.get(bad.path, ""), f"said instead: {said}"


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.name)
def test_a_change_is_taken_or_refused(change: Change) -> None:
    problems = validate_update(parse(change.new), parse(change.old))
    messages = " ".join(problem.message for problem in problems)
    assert (change.sentence in messages) if change.sentence else (not problems)


def structs(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """A model and all structs within it."""
    yield model
    for info in model.model_fields.values():
        for part in _structs_in(info.annotation):
            yield from structs(part)


def _structs_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in getattr(annotation, "__args__", ()):
        yield from _structs_in(argument)


def all_rules() -> dict[str, Rule]:
    return {
        f"{struct.__name__}.{rule.name}": rule
        for kind in KINDS.values()
        for struct in structs(kind)
        for rule in rules_of(struct)
    }


def text_sentences(schema: Any) -> Iterator[str]:
    """The sentences of all rules in a schema."""
    if isinstance(schema, dict):
        for rule in schema.get("x-kubernetes-validations", ()):
            yield rule["message"]
        for part in schema.values():
            yield from text_sentences(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from text_sentences(part)


def test_every_rule_is_broken_by_something_in_the_corpus() -> None:
    said = [problem.message for bad in BAD for problem in problems_of(bad.document)] + [
        problem.message
        for change in CHANGES
        for problem in validate_update(parse(change.new), parse(change.old))
    ]
    written = {sentence for kind in KINDS for sentence in text_sentences(definition(kind))}
    assert len(all_rules()) > 30
    assert {rule.message for rule in all_rules().values() if rule.cel} <= written
    ours = {rule.message for rule in all_rules().values() if not rule.cel}
    assert (written | ours) - set(said) == set()


def problems_of(document: dict[str, Any]) -> tuple[Any, ...]:
    try:
        parse(document)
    except InvalidResource as refusal:
        return refusal.problems
    return ()


def field_names(schema: Any) -> set[str]:
    """The names of all fields in a schema."""
    parts = schema.values() if isinstance(schema, dict) else schema
    if not isinstance(schema, dict | list):
        return set()
    names = set(schema.get("properties", ())) if isinstance(schema, dict) else set()
    return names.union(*(field_names(part) for part in parts))


def test_every_sentence_is_one() -> None:
    for kind in KINDS:
        for sentence in text_sentences(definition(kind)):
            first = sentence.split()[0].split(".")[0]  # a field's name may come first
            assert sentence[0].isupper() or first in field_names(definition(kind)), sentence
            assert sentence.endswith("."), sentence


def test_all_problems_are_named_at_once() -> None:
    broken = relay(
        replicas=0,
        hostnam="x",
        listeners=[{"name": "a", "port": "x"}, {"name": "b"}],
    )
    with pytest.raises(InvalidResource) as refusal:
        parse(broken)
    assert {problem.path for problem in refusal.value.problems} == {
        "spec.replicas",
        "spec.hostnam",
        "spec.listeners[a].port",
        "spec.listeners[b].port",
    }


def test_a_refusal_reads_as_one_line() -> None:
    with pytest.raises(InvalidResource) as refusal:
        parse(listening(port=8025))
    assert str(refusal.value) == (
        "MailRelay default/relay: spec.listeners[one].port (8025): Ports 8025 (admin) and 8026"
        " (peers) are reserved; choose another, such as 2525."
    )


def test_what_the_api_server_adds_is_let_be() -> None:
    document = relay()
    document["metadata"] |= {
        "uid": "u",
        "generation": 3,
        "resourceVersion": "7",
        "managedFields": [{"manager": "kubectl"}],
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "selfLink": "/x",
    }
    document["status"] = {"conditions": [], "somethingNewer": {"a": 1}}
    parsed = parse(document)
    assert (parsed.metadata.uid, parsed.metadata.generation) == ("u", 3)
    assert parsed.status.conditions == ()


def test_a_status_of_another_version_is_no_reason_to_refuse() -> None:
    parsed = parse(relay() | {"status": {"conditions": "many", "replicas": -1}})
    assert [condition.reason for condition in parsed.status.conditions] == ["Pending"] * 6


def test_a_rule_of_a_newer_crd_can_be_left_out_for_what_is_stored() -> None:
    assert read_shape(listening(port=8025)).metadata.name == "relay"


@pytest.mark.parametrize(
    ("document", "path"),
    [
        ({}, "kind"),
        ({"kind": "Pod", "apiVersion": "v1"}, "kind"),
        (relay() | {"apiVersion": "mailrelay.dev/v1"}, "apiVersion"),
        (relay() | {"metadata": None}, "metadata"),
        (relay() | {"metadata": {}}, "metadata.name"),
        (relay() | {"spec": []}, "spec"),
    ],
)
def test_what_is_none_of_ours_is_refused(document: dict[str, Any], path: str) -> None:
    with pytest.raises(InvalidResource) as refusal:
        parse(document)
    assert [problem.path for problem in refusal.value.problems] == [path]


def test_a_model_is_frozen_and_equal_by_value() -> None:
    first, second = parse(relay()), parse(relay())
    assert first == second
    with pytest.raises(ValueError, match="frozen"):
        first.spec.hostname = "other.example.com"  # type: ignore[misc, union-attr]
