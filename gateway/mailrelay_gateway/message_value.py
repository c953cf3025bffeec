"""The decorator of values that each message makes: frozen dataclasses for the type checker, and
plain ones when they run.

Python fills in the fields of a frozen dataclass by a call each, so that one of nine fields costs
four times as much; with a dozen values a message that was a twelfth of all Python code that a
message runs. Nothing else differs: mypy refuses an assignment, and they compare and hash by value.
Values that are not made for each message are frozen dataclasses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dataclasses import dataclass as message_value
else:
    from dataclasses import dataclass

    def message_value(*, frozen, slots, kw_only=False):
        """Take what `dataclass` takes, which is what the type checker sees."""
        assert frozen
        return dataclass(unsafe_hash=True, slots=slots, kw_only=kw_only)


__all__ = ["message_value"]
