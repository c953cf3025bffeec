"""Durations (GEP-2257) and sizes (Kubernetes quantities): text in the API, seconds and octets in
code. Pure.

Both are `str`, so that a value is shown and stored as it was written.
"""

from __future__ import annotations

import re
from decimal import ROUND_CEILING, Decimal
from typing import Any, ClassVar, Self

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

#: GEP-2257: up to four parts, five digits each, so that an implementation's integers cannot
#: overflow.
DURATION_PATTERN = r"^([0-9]{1,5}(h|m|s|ms)){1,4}$"
MAX_DURATION_LENGTH = 28
#: The quantities that make sense for sizes: no milli-bytes, no exponents; digits bounded to keep
#: octets below 2^63.
QUANTITY_PATTERN = r"^[0-9]{1,12}([.][0-9]{1,3})?(Ki|Mi|Gi|Ti|k|M|G|T)?$"
MAX_QUANTITY_LENGTH = 18

_DURATION = re.compile(DURATION_PATTERN.removeprefix("^").removesuffix("$"))
_DURATION_PART = re.compile(r"([0-9]+)(h|ms|m|s)")
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}

_QUANTITY = re.compile(r"([0-9]{1,12}(?:[.][0-9]{1,3})?)(Ki|Mi|Gi|Ti|k|M|G|T)?")
_OCTETS = {
    None: 1,
    "k": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
    "Ti": 2**40,
}


def parse_duration(text: str) -> float:
    """The seconds of a GEP-2257 duration such as `1h30m`; raises ValueError with the syntax."""
    if not _DURATION.fullmatch(text):
        raise ValueError("Write a duration as in 30s, 10m, 24h or 1h30m (units h, m, s, ms).")
    parts = ((int(digits), unit) for digits, unit in _DURATION_PART.findall(text))
    return sum(count * _SECONDS[unit] for count, unit in parts)


def parse_quantity(text: str) -> int:
    """The octets of a size such as `10Gi`, rounded up; raises ValueError with the syntax."""
    found = _QUANTITY.fullmatch(text)
    if not found:
        raise ValueError(
            "Write a size as in 512Ki, 25Mi or 10Gi (units Ki, Mi, Gi, Ti, k, M, G, T)."
        )
    octets = Decimal(found[1]) * _OCTETS[found[2]]
    return int(octets.to_integral_value(rounding=ROUND_CEILING))


class _Text(str):
    """A string with a grammar, checked by the constructor and included in the schema."""

    __slots__ = ()

    pattern: ClassVar[str]
    longest: ClassVar[int]

    def __new__(cls, text: str) -> Self:
        """Accept the text if it follows the grammar; raises ValueError otherwise."""
        cls.check(text)
        return super().__new__(cls, text)

    @classmethod
    def check(cls, text: str) -> None:
        """Raise ValueError unless the text follows the grammar."""
        raise NotImplementedError

    @classmethod
    def __get_pydantic_core_schema__(
        cls, _source: Any, _handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Validate as a string, then against the grammar."""

        def read(text: str) -> _Text:
            try:
                return cls(text)
            except ValueError as error:
                raise PydanticCustomError(
                    "sentence", "{sentence}", {"sentence": str(error)}
                ) from None

        return core_schema.no_info_after_validator_function(read, core_schema.str_schema())

    @classmethod
    def __get_pydantic_json_schema__(
        cls, _schema: CoreSchema, _handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """A string with pattern and bound."""
        return {"type": "string", "pattern": cls.pattern, "maxLength": cls.longest}


class Duration(_Text):
    """A GEP-2257 duration; `.seconds` is its length."""

    __slots__ = ()
    pattern = DURATION_PATTERN
    longest = MAX_DURATION_LENGTH

    @classmethod
    def check(cls, text: str) -> None:
        """Raise ValueError unless the text is a duration."""
        parse_duration(text)

    @property
    def seconds(self) -> float:
        """The length in seconds."""
        return parse_duration(self)


class Quantity(_Text):
    """A size; `.octets` is its value."""

    __slots__ = ()
    pattern = QUANTITY_PATTERN
    longest = MAX_QUANTITY_LENGTH

    @classmethod
    def check(cls, text: str) -> None:
        """Raise ValueError unless the text is a size."""
        parse_quantity(text)

    @property
    def octets(self) -> int:
        """The size in octets."""
        return parse_quantity(self)
