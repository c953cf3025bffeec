"""Fixtures of the engine's tests."""

from __future__ import annotations

import pytest

from tests.integration.operator.world import World


@pytest.fixture
def world() -> World:
    """An empty cluster with an operator."""
    return World()
