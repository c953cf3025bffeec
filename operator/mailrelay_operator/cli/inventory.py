"""What the files hold, as the objects that a cluster would hold: checked, named once, with UIDs.

Here documents become objects, and nothing is decided about them: that is the plan's part. Objects
stay manifests (dictionaries), because the plan reads the same from a cluster.
"""

from __future__ import annotations

import base64
import binascii
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from mailrelay_operator.api.metadata import GROUP
from mailrelay_operator.api.parsing import InvalidResource, parse
from mailrelay_operator.cli.documents import Document, FileProblem, FilesUnusable, show
from mailrelay_operator.plan.objects import Manifest

Key = tuple[str, str]  # namespace, name

#: The UIDs of objects from files: the same for the same name at every start.
_UIDS = uuid.uuid5(uuid.NAMESPACE_URL, "mailrelay.dev/standalone")
#: RFC 1123 subdomain, as Kubernetes names objects.
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """Objects by namespace and name; `documents` remembers where each was written."""

    relays: Mapping[Key, Manifest] = field(default_factory=dict)
    senders: Mapping[Key, Manifest] = field(default_factory=dict)
    domains: Mapping[Key, Manifest] = field(default_factory=dict)
    secrets: Mapping[Key, Manifest] = field(default_factory=dict)
    config_maps: Mapping[Key, Manifest] = field(default_factory=dict)
    namespaces: Mapping[str, Manifest] = field(default_factory=dict)
    documents: Mapping[tuple[str, Key], Document] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()  # subjects of kinds that mean nothing here

    def namespace(self, name: str) -> Manifest:
        """The Namespace; one that stands in no file exists and has no labels."""
        return self.namespaces.get(name) or {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": name, "labels": {}},
        }


def take_inventory(documents: Iterable[Document]) -> Inventory:
    """Sort the documents by kind. FilesUnusable names everything that is wrong with any of them."""
    found: dict[str, dict[Key, Manifest]] = {kind: {} for kind in _CHECKS}
    places: dict[tuple[str, Key], Document] = {}
    problems: list[FileProblem] = []
    ignored: list[str] = []
    for document in documents:
        kind = document.kind
        if document.api_version.split("/")[0] != GROUP and (
            kind not in _CHECKS or document.api_version != "v1"
        ):
            if not kind or not document.api_version:
                problems.append(document.problem("apiVersion and kind are required."))
            else:
                ignored.append(document.subject)
            continue
        wrong = list(_find_problems(document))
        key = ("" if kind == "Namespace" else document.namespace, document.name)
        if not wrong and key in found[kind]:
            first = places[kind, key]
            wrong = [
                document.problem(
                    f"{document.subject} stands in {first.file} (document {first.number}) as well;"
                    " remove one of the two.",
                    "metadata.name",
                )
            ]
        problems.extend(wrong)
        if not wrong:
            found[kind][key] = _as_object(document)
            places[kind, key] = document
    if problems:
        raise FilesUnusable(problems)
    return Inventory(
        relays=found["MailRelay"],
        senders=found["MailSender"],
        domains=found["MailDomain"],
        secrets=found["Secret"],
        config_maps=found["ConfigMap"],
        namespaces={name: namespace for (_, name), namespace in found["Namespace"].items()},
        documents=places,
        ignored=tuple(ignored),
    )


def choose_relay(inventory: Inventory, wanted: str | None) -> Key:
    """The MailRelay to run: `wanted` (`NS/NAME`, or a name that is there once), or the only one.

    ValueError says what to add.
    """
    relays = [f"{namespace}/{name}" for namespace, name in sorted(inventory.relays)]
    if not relays:
        raise ValueError("The files hold no MailRelay; add one, as examples/1-sandbox.yaml does.")
    if wanted is None:
        if len(relays) > 1:
            raise ValueError(
                f"The files hold {len(relays)} MailRelays ({', '.join(relays)}), and one gateway"
                f" runs one: choose it with --relay, such as --relay {relays[0]}."
            )
        return next(iter(inventory.relays))
    matching = [key for key in inventory.relays if wanted in ("/".join(key), key[1])]
    if len(matching) != 1:
        raise ValueError(
            f"--relay {wanted}: the files hold {', '.join(relays)}; name one of these."
        )
    return matching[0]


def _find_problems(document: Document) -> Iterator[FileProblem]:
    if not _NAME.fullmatch(document.name):
        seen = (document.body.get("metadata") or {}) if document.name else {}
        value = seen.get("name") if isinstance(seen, dict) else None
        sentence = (
            "is no object's name: small letters, digits, hyphens." if value else "is required."
        )
        yield document.problem(sentence, "metadata.name", value=value)
        return
    yield from _CHECKS.get(document.kind, _find_api_problems)(document)


def _find_api_problems(document: Document) -> Iterator[FileProblem]:
    try:
        parse(document.body)
    except InvalidResource as error:
        for problem in error.problems:
            simple = isinstance(problem.value, str | int | float)
            yield document.problem(
                problem.message, problem.path, value=problem.value if simple else None
            )


def _find_secret_problems(document: Document) -> Iterator[FileProblem]:
    yield from _find_text_problems(document, "stringData")
    yield from _find_base64_problems(document, "data")


def _find_config_map_problems(document: Document) -> Iterator[FileProblem]:
    yield from _find_text_problems(document, "data")
    yield from _find_base64_problems(document, "binaryData")


def _find_namespace_problems(document: Document) -> Iterator[FileProblem]:
    labels = (document.body.get("metadata") or {}).get("labels") or {}
    if not isinstance(labels, dict):
        yield document.problem("must be a map of texts.", "metadata.labels")
        return
    for key, value in labels.items():
        if not isinstance(value, str):
            yield document.problem(
                f"must be a text; write {key}: {show(str(value).lower())}.",
                f"metadata.labels.{key}",
                value=value,
            )


def _find_text_problems(document: Document, part: str) -> Iterator[FileProblem]:
    # Values are not shown: they may be passwords.
    values = document.body.get(part) or {}
    if not isinstance(values, dict):
        yield document.problem("must be a map of texts.", part)
        return
    for key, value in values.items():
        if not isinstance(value, str):
            yield document.problem(
                f"must be a text, and YAML reads a {type(value).__name__} here; put it in quotes.",
                f"{part}.{key}",
            )


def _find_base64_problems(document: Document, part: str) -> Iterator[FileProblem]:
    values = document.body.get(part) or {}
    if not isinstance(values, dict):
        yield document.problem("must be a map of base64 texts.", part)
        return
    for key, value in values.items():
        try:
            base64.b64decode("".join(str(value).split()), validate=True)
        except (binascii.Error, ValueError):
            advice = "; plain text goes into stringData." if document.kind == "Secret" else "."
            yield document.problem(f"is not base64{advice}", f"{part}.{key}")


_CHECKS = {
    "MailRelay": _find_api_problems,
    "MailSender": _find_api_problems,
    "MailDomain": _find_api_problems,
    "Secret": _find_secret_problems,
    "ConfigMap": _find_config_map_problems,
    "Namespace": _find_namespace_problems,
}


def _as_object(document: Document) -> Manifest:
    """The document with the metadata that an API server would have added."""
    body = {key: value for key, value in document.body.items() if key != "status"}
    metadata = {"labels": {}, **{k: v for k, v in body["metadata"].items() if v is not None}}
    if document.kind != "Namespace":
        metadata["namespace"] = document.namespace
    metadata["uid"] = str(uuid.uuid5(_UIDS, document.subject))
    metadata["generation"] = 1
    if document.kind in ("Secret", "ConfigMap"):
        for part in ("data", "binaryData"):  # base64 may stand on several lines
            if document.kind == "ConfigMap" and part == "data":
                continue
            if body.get(part):
                body[part] = {key: "".join(str(v).split()) for key, v in body[part].items()}
    return {**body, "metadata": metadata}
