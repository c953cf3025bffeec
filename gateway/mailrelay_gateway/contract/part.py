"""What all parts of the contract's documents have in common: strict when written, tolerant when
read. The rules are in `documents`. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Self, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    GetCoreSchemaHandler,
    ValidationInfo,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic_core.core_schema import CoreSchema, tagged_union_schema

#: The context of pydantic in which documents are read; built in code, they are written.
READING: Final = "reading"


class Part(BaseModel):
    """A part of a document: frozen, camelCase in JSON; see above for what raises and when."""

    # `populate_by_name` would do the same, but then mypy's plugin reports no missing argument.
    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
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


class ByKind:
    """Chooses the member of a union of models by its `kind`, whatever that says: what no other
    member names is an UnknownKind, which the union has to have. `Annotated[A | B | UnknownKind,
    ByKind()]`: each kind is named where its model is, and nowhere else.
    """

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """A union tagged by the kinds of its members."""
        members = {_kind_of(model): model for model in get_args(source)}

        def tag(value: Any) -> str:
            kind = value.get("kind") if isinstance(value, Mapping) else getattr(value, "kind", None)
            return kind if kind in members else ""

        choices = {kind: handler.generate_schema(model) for kind, model in members.items()}
        return tagged_union_schema(choices, discriminator=tag)


def _kind_of(model: type[Part]) -> str:
    """The kind that a model is the only one of; "" for UnknownKind."""
    return "" if model is UnknownKind else str(model.model_fields["kind"].default)
