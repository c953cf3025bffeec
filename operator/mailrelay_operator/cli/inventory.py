"""The objects in the files, as a cluster would store them: validated, unique, with UIDs.

Turns documents into objects; the plan decides about them. Objects stay manifests (dictionaries),
as the plan reads them from a cluster.
"""

from __future__ import annotations

import base64
import binascii
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from mailrelay_operator.api.metadata import API_VERSION, GROUP
from mailrelay_operator.api.parsing import KINDS, InvalidResource, Resource, closest, parse
from mailrelay_operator.api.shape import Problem
from mailrelay_operator.cli.documents import (
    Document,
    FileProblem,
    FilesUnusable,
    show,
    shown_name,
)
from mailrelay_operator.plan.objects import Manifest, namespace_of
from mailrelay_operator.plan.verdicts import Complaint

Key = tuple[str, str]  # namespace, name
Place = tuple[str, Key]  # kind, namespace and name

#: The UIDs of objects from files: derived from the name, so the same at every start.
_UIDS = uuid.uuid5(uuid.NAMESPACE_URL, "mailrelay.dev/standalone")
#: RFC 1123 subdomain, as Kubernetes names objects.
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """Objects by namespace and name; `documents` has their places in the files."""

    relays: Mapping[Key, Manifest] = field(default_factory=dict)
    senders: Mapping[Key, Manifest] = field(default_factory=dict)
    domains: Mapping[Key, Manifest] = field(default_factory=dict)
    secrets: Mapping[Key, Manifest] = field(default_factory=dict)
    config_maps: Mapping[Key, Manifest] = field(default_factory=dict)
    namespaces: Mapping[str, Manifest] = field(default_factory=dict)
    documents: Mapping[Place, Document] = field(default_factory=dict)
    models: Mapping[Place, Resource] = field(default_factory=dict)  # of mailrelay's kinds
    ignored: tuple[str, ...] = ()  # subjects of kinds that are not used

    def namespace(self, name: str) -> Manifest:
        """The Namespace; one that is in no file counts as existing without labels."""
        return self.namespaces.get(name) or {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": name, "labels": {}},
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Sorted:
    """The valid objects, all problems of the invalid ones, and those by kind and name, if they
    have one."""

    inventory: Inventory
    problems: tuple[FileProblem, ...] = ()
    broken: Mapping[Place, Document] = field(default_factory=dict)
    paths: Mapping[Place, tuple[str, ...]] = field(default_factory=dict)  # what is wrong with those


def take_inventory(documents: Iterable[Document]) -> Inventory:
    """Sort the documents by kind; raises FilesUnusable with all problems."""
    found = sort_documents(documents)
    if found.problems:
        raise FilesUnusable(found.problems)
    return found.inventory


def sort_documents(documents: Iterable[Document]) -> Sorted:
    """Sort the documents by kind, invalid ones separately."""
    found: dict[str, dict[Key, Manifest]] = {kind: {} for kind in (*KINDS, *_CORE)}
    places: dict[Place, Document] = {}
    models: dict[Place, Resource] = {}
    broken: dict[Place, Document] = {}
    paths: dict[Place, tuple[str, ...]] = {}
    problems: list[FileProblem] = []
    ignored: list[str] = []
    for document in documents:
        kind = document.kind
        if (stray := _find_stray(document)) is not None:
            problems.append(stray)
            continue
        if not _is_known(document):
            ignored.append(document.subject)
            continue
        key = ("" if kind == "Namespace" else document.namespace, document.name)
        wrong, model = _look_at(document)
        if not wrong and key in found[kind]:
            first = places[kind, key]
            wrong = [
                document.problem(
                    f"{document.subject} is also in {shown_name(first.file)}:{first.line_of('')}:"
                    " remove one of them.",
                    "metadata.name",
                )
            ]
        elif wrong:
            broken[kind, key] = document
            paths[kind, key] = tuple(one.path for one in wrong)
        problems.extend(wrong)
        if wrong:
            continue
        found[kind][key] = _as_object(document)
        places[kind, key] = document
        if model is not None:
            models[kind, key] = model
    inventory = Inventory(
        relays=found["MailRelay"],
        senders=found["MailSender"],
        domains=found["MailDomain"],
        secrets=found["Secret"],
        config_maps=found["ConfigMap"],
        namespaces={name: namespace for (_, name), namespace in found["Namespace"].items()},
        documents=places,
        models=models,
        ignored=tuple(ignored),
    )
    return Sorted(inventory=inventory, problems=tuple(problems), broken=broken, paths=paths)


def choose_relay(inventory: Inventory, wanted: str | None) -> Key:
    """The MailRelay to run: `wanted` (`NS/NAME`, or an unambiguous name), or the only one.

    Raises ValueError with what to do.
    """
    relays = [f"{namespace}/{name}" for namespace, name in sorted(inventory.relays)]
    if not relays:
        raise ValueError("The files contain no MailRelay; add one as in examples/1-sandbox.yaml.")
    if wanted is None:
        if len(relays) > 1:
            raise ValueError(
                f"The files contain {len(relays)} MailRelays ({', '.join(relays)}), but one gateway"
                f" runs only one: choose it with --relay, such as --relay {relays[0]}."
            )
        return next(iter(inventory.relays))
    matching = [key for key in inventory.relays if wanted in ("/".join(key), key[1])]
    if len(matching) != 1:
        raise ValueError(f"--relay {wanted}: not in the files; choose one of {', '.join(relays)}.")
    return matching[0]


def _is_known(document: Document) -> bool:
    """Whether it is of a kind that is used, or looks like one."""
    return document.group == GROUP or (document.kind in _CORE and document.api_version == "v1")


def _find_stray(document: Document) -> FileProblem | None:
    """What is wrong with apiVersion or kind, if one of the used kinds was meant."""
    kind, version = document.kind, document.api_version
    if not kind or not version:
        missing = [name for name, text in (("apiVersion", version), ("kind", kind)) if not text]
        is_are = "are" if len(missing) > 1 else "is"
        return document.problem(f"{' and '.join(missing)} {is_are} required.")
    if document.group == GROUP:
        return None
    if kind in KINDS:
        return document.problem(f"must be {API_VERSION} for {kind}.", "apiVersion", value=version)
    if kind in _CORE and version != "v1" and "." not in document.group:
        # With a domain it is another API's kind of that name.
        return document.problem(f"must be v1 for {kind}.", "apiVersion", value=version)
    if closest(document.group, (GROUP,)) and closest(kind, KINDS):
        return document.problem(f"Did you mean {API_VERSION}?", "apiVersion", value=version)
    return None


def _look_at(document: Document) -> tuple[list[FileProblem], Resource | None]:
    if not _NAME.fullmatch(document.name):
        seen = (document.body.get("metadata") or {}) if document.name else {}
        value = seen.get("name") if isinstance(seen, dict) else None
        sentence = (
            "is not a valid object name: use lower-case letters, digits and hyphens."
            if value
            else "is required."
        )
        return [document.problem(sentence, "metadata.name", value=value)], None
    if document.kind in _CORE and document.group != GROUP:
        return list(_CORE[document.kind](document)), None
    try:
        return [], parse(document.body)
    except InvalidResource as error:
        return [problem_of(document, one) for one in error.problems], None


def problem_of(document: Document, problem: Problem) -> FileProblem:
    """A problem of the API, with its place."""
    simple = isinstance(problem.value, str | int | float)
    return document.problem(problem.message, problem.path, value=problem.value if simple else None)


def _find_secret_problems(document: Document) -> Iterator[FileProblem]:
    yield from _find_text_problems(document, "stringData")
    yield from _find_base64_problems(document, "data")


def _find_config_map_problems(document: Document) -> Iterator[FileProblem]:
    yield from _find_text_problems(document, "data")
    yield from _find_base64_problems(document, "binaryData")


def _find_namespace_problems(document: Document) -> Iterator[FileProblem]:
    labels = (document.body.get("metadata") or {}).get("labels") or {}
    if not isinstance(labels, dict):
        yield document.problem("must be a map of strings.", "metadata.labels")
        return
    for key, value in labels.items():
        if not isinstance(value, str):
            yield document.problem(
                f"must be a string; write {key}: {show(str(value).lower())}.",
                f"metadata.labels.{key}",
                value=value,
            )


def _find_text_problems(document: Document, part: str) -> Iterator[FileProblem]:
    # Values are not shown: they may be passwords.
    values = document.body.get(part) or {}
    if not isinstance(values, dict):
        yield document.problem("must be a map of strings.", part)
        return
    for key, value in values.items():
        if not isinstance(value, str):
            yield document.problem(
                f"must be a string, but YAML reads {_WORDS.get(type(value), 'an object')}:"
                " put it in quotes.",
                f"{part}.{key}",
            )


def _find_base64_problems(document: Document, part: str) -> Iterator[FileProblem]:
    values = document.body.get(part) or {}
    if not isinstance(values, dict):
        yield document.problem("must be a map of base64 strings.", part)
        return
    for key, value in values.items():
        try:
            base64.b64decode("".join(str(value).split()), validate=True)
        except (binascii.Error, ValueError):
            advice = "; put plain text into stringData." if document.kind == "Secret" else "."
            yield document.problem(f"is not base64{advice}", f"{part}.{key}")


def relay_of(manifest: Manifest) -> Key:
    """The MailRelay that a MailSender or MailDomain refers to."""
    reference = manifest["spec"]["relayRef"]
    return reference.get("namespace") or namespace_of(manifest), reference["name"]


def place_of(complaint: Complaint, inventory: Inventory) -> FileProblem:
    """A complaint of the plan with its file and line."""
    key = complaint.namespace, complaint.name
    document = inventory.documents.get((complaint.kind, key))
    if document is None:
        return FileProblem(file="", sentence=str(complaint))
    sentence = f"{complaint.trouble.reason}: {complaint.trouble.message}"
    return document.problem(sentence, complaint.trouble.path)


_WORDS = {
    bool: "true or false",
    int: "a number",
    float: "a number",
    list: "a list",
    type(None): "null",
}
_CORE = {
    "Secret": _find_secret_problems,
    "ConfigMap": _find_config_map_problems,
    "Namespace": _find_namespace_problems,
}


def _as_object(document: Document) -> Manifest:
    """The document with the metadata that an API server adds."""
    body = {key: value for key, value in document.body.items() if key != "status"}
    metadata = {"labels": {}, **{k: v for k, v in body["metadata"].items() if v is not None}}
    if document.kind != "Namespace":
        metadata["namespace"] = document.namespace
    metadata["uid"] = str(uuid.uuid5(_UIDS, document.subject))
    metadata["generation"] = 1
    if document.kind in ("Secret", "ConfigMap"):
        for part in ("data", "binaryData"):  # base64 may take several lines
            if document.kind == "ConfigMap" and part == "data":
                continue
            if body.get(part):
                body[part] = {key: "".join(str(v).split()) for key, v in body[part].items()}
    return {**body, "metadata": metadata}
