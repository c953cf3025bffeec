"""The namespaces that the operator watches. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """The watched namespaces; None: all."""

    namespaces: tuple[str, ...] | None = None

    def holds(self, namespace: str) -> bool:
        """Whether this namespace is watched."""
        return self.namespaces is None or namespace in self.namespaces
