"""Runs many seeds of the simulated worlds and prints those that fail: `make simulate`."""

from __future__ import annotations

import argparse
import sys
import time
import traceback

from tests.simulation.worlds import WORLDS, live


def main() -> int:
    """0 when no seed failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="how many, of each world (1000)")
    parser.add_argument("--first", type=int, default=0, help="the first of them (0)")
    parser.add_argument("--world", choices=[*WORLDS], action="append", help="only this one")
    arguments = parser.parse_args()
    failed = 0
    for world in arguments.world or WORLDS:
        began, bad = time.monotonic(), 0
        for seed in range(arguments.first, arguments.first + arguments.seeds):
            try:
                live(world, seed)
            except Exception as error:
                bad += 1
                where = traceback.extract_tb(error.__traceback__)[-1]
                _say(f"{world} {seed}: {type(error).__name__} at {where.name}: {error!s:.400}")
                _say(f"  pytest tests/simulation -k {world} --seed {seed}")
        _say(f"{world}: {arguments.seeds} seeds, {bad} failed, {time.monotonic() - began:.0f} s")
        failed += bad
    return 1 if failed else 0


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
