"""The base of the contract's models: strict when written, tolerant when read. The rules are in
`documents`. Pure.
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

#: The pydantic context for reading documents; without it they are being written.
READING: Final = "reading"


class Part(BaseModel):
    """A part of a document: frozen, camelCase in JSON."""

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
        """Read JSON of any version: unknown fields go to `model_extra`, unknown kinds are
        accepted. Raises ValidationError if it is unusable nevertheless.
        """
        return cls.model_validate(document, extra="allow", context=READING)


class UnknownKind(Part):
    """A kind of a newer writer; kept as it is, so that it can be written back. Never created by
    code.
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
    """Selects the member of a union of models by its `kind`; any other kind is an UnknownKind,
    which the union must contain: `Annotated[A | B | UnknownKind, ByKind()]`. Each kind is named
    only in its model.
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
    """The kind of a model; "" for UnknownKind."""
    return "" if model is UnknownKind else str(model.model_fields["kind"].default)
