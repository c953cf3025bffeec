"""`--seed N` repeats one seed of each world that is chosen."""

from __future__ import annotations

import pytest

from tests.simulation.worlds import WORLDS


def pytest_addoption(parser: pytest.Parser) -> None:
    """The option exists where this folder is named on the command line."""
    parser.addoption("--seed", type=int, help="repeat this seed of the simulated worlds")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Each world with each of its seeds."""
    if "seed" not in metafunc.fixturenames:
        return
    one: int | None = metafunc.config.getoption("--seed", default=None)
    metafunc.parametrize(
        ("world", "seed"),
        [
            pytest.param(world, seed, id=f"{world}-{seed}")
            for world, (_, seeds) in WORLDS.items()
            for seed in (range(seeds) if one is None else [one])
        ],
    )
