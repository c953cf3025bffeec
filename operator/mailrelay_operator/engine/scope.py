"""Where this operator may look. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """The namespaces that we may look at; None: all."""

    namespaces: tuple[str, ...] | None = None

    def holds(self, namespace: str) -> bool:
        """Whether we may look at this namespace."""
        return self.namespaces is None or namespace in self.namespaces
