"""What a refused resource is, in the corpus."""

from __future__ import annotations

from dataclasses import dataclass

from tests.unit.api.documents import Document


@dataclass(frozen=True, slots=True, kw_only=True)
class Bad:
    """A resource that is refused: `path` is shown for it, and `sentence` is in the refusal.

    `shape` says that the schema refuses it, in which case the API server has words of its own;
    `stored` that the API server takes it, and only we refuse it.
    """

    name: str
    document: Document
    path: str
    sentence: str
    shape: bool = False
    stored: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """An update of a resource, and the sentence with which it is refused (None: it is taken)."""

    name: str
    old: Document
    new: Document
    sentence: str | None


def broken(name: str, document: Document, path: str, sentence: str) -> Bad:
    """A resource that breaks a rule."""
    return Bad(name=name, document=document, path=path, sentence=sentence)


def misshapen(name: str, document: Document, path: str, sentence: str) -> Bad:
    """A resource that the schema refuses."""
    return Bad(name=name, document=document, path=path, sentence=sentence, shape=True)


def beyond_cel(name: str, document: Document, path: str, sentence: str) -> Bad:
    """A resource that breaks a rule which CEL cannot keep."""
    return Bad(name=name, document=document, path=path, sentence=sentence, stored=True)
