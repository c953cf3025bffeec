"""What all parts of the contract's documents have in common: strict when written, tolerant when
read. The rules are in `documents`. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Self

from pydantic import BaseModel, ConfigDict, Discriminator, ValidationInfo, model_validator
from pydantic.alias_generators import to_camel

#: The context of pydantic in which documents are read; built in code, they are written.
READING: Final = "reading"


class Part(BaseModel):
    """A part of a document: frozen, camelCase in JSON; see above for what raises and when."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True
    )

    @classmethod
    def read(cls, document: Any) -> Self:
        """From another version's JSON: unknown fields are kept aside in `model_extra`, unknown
        kinds are tolerated. ValidationError if it cannot be used all the same.
        """
        return cls.model_validate(document, extra="allow", context=READING)


class UnknownKind(Part):
    """What a newer writer means and this reader does not know; kept whole, so that it can be
    written again as it was. Only ever read.
    """

    model_config = ConfigDict(extra="allow")

    kind: str

    @model_validator(mode="before")
    @classmethod
    def _is_read(cls, given: Any, info: ValidationInfo) -> Any:
        if info.context != READING and not isinstance(given, UnknownKind):
            raise ValueError("this version writes no such kind")
        return given


def by_kind(*known: str) -> Discriminator:
    """Chooses the member of a union by its `kind`; "" is the tag of UnknownKind."""

    def tag(value: Any) -> str:
        kind = value.get("kind") if isinstance(value, Mapping) else getattr(value, "kind", None)
        return kind if kind in known else ""

    return Discriminator(tag)
