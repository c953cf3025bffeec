"""`make bench`: mailrelay, the floor (a bare relay with the same promise) and Postfix, the same
mail from smtp-source to smtp-sink, one after the other in one run.

Prints a table and writes build/bench.json. Each figure is the median of the rounds, also as a
multiple of the floor and of Postfix in the same round: multiples travel between machines, absolute
figures do not.

`--against REVISION` measures this tree's gateway and that revision's instead, in turns, and prints
the ratios, ours to theirs, round by round (build/bench-against.json).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import json
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.bench.figures import FLOOR, POSTFIX, Measured, against_table, as_json, table, turns
from tests.bench.load import DURABLE, ROWS, Kind, Row, measure
from tests.bench.relays import Floor, Gateway, Postfix, gateway_python_version
from tests.bench.revisions import HERE, RevisionError, TreeGateway, tree_of

OURS = "mailrelay"
KINDS: dict[str, Kind] = {OURS: Gateway, FLOOR: Floor, POSTFIX: Postfix}

#: By row and relay, one entry a round.
Results = dict[str, dict[str, list[Measured]]]


def rounds(
    kinds: Mapping[str, Kind], rows: Sequence[Row], count: int, *, messages: int, seconds: float
) -> Results:
    """Measure each row with each relay, `count` times; no round begins after `seconds`."""
    found: Results = {row.name: {kind: [] for kind in kinds} for row in rows}
    order = turns(list(kinds), count)
    began = time.monotonic()
    for n in range(count):
        if n and time.monotonic() - began > seconds:
            sys.stderr.write(f"{n} rounds only: the time is up (--minutes)\n")
            break
        for row in rows:
            for name in order[n * len(kinds) : (n + 1) * len(kinds)]:
                many = messages or row.messages.get(name, row.messages[OURS])
                measured = asyncio.run(measure(kinds[name], row, many))
                sys.stderr.write(
                    f"round {n + 1} of {count}, {row.name}: {name} {measured.rate:.0f}/s,"
                    f" {measured.cpu_ms:.3f} ms, {measured.memory_mib:.0f} MiB\n"
                )
                found[row.name][name].append(measured)
    return found


def machine() -> dict[str, object]:
    """What the figures were taken on, and how busy it was before we began."""
    return {
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "gateway_python": gateway_python_version(),
    }


def write_down(name: str, document: Mapping[str, object]) -> None:
    """Write the JSON, and say where it is."""
    path = DURABLE / name
    path.write_text(json.dumps(document, indent=2) + "\n")
    where = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    sys.stdout.write(f"also in {where}\n")


def main() -> None:
    """Measure everything and say it."""
    parser = argparse.ArgumentParser(description=__doc__, prog="make bench")
    parser.add_argument("--against", metavar="REVISION", help="compare with that revision")
    parser.add_argument("--rounds", type=int, help="measurements of each figure (3; against: 6)")
    parser.add_argument("--messages", type=int, default=0, help="messages a measurement")
    parser.add_argument(
        "--row", action="append", choices=[row.key for row in ROWS], help="this load only"
    )
    parser.add_argument("--only", action="append", choices=list(KINDS), help="this relay only")
    parser.add_argument("--minutes", type=float, default=20, help="no round begins after these")
    arguments = parser.parse_args()
    if arguments.against and arguments.only:
        parser.error("--against measures two revisions and the floor: leave --only out")
    # a terminated run removes its folders too
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    DURABLE.mkdir(exist_ok=True)

    kinds = {name: kind for name, kind in KINDS.items() if name in (arguments.only or KINDS)}
    rows = [row for row in ROWS if row.key in (arguments.row or [row.key])]
    about = machine()
    if os.getloadavg()[0] > 0.5:
        sys.stderr.write("this machine does other work: trust the multiples, not the figures\n")
    measured = functools.partial(
        rounds, rows=rows, messages=arguments.messages, seconds=arguments.minutes * 60
    )
    if arguments.against is None:
        results = measured(kinds, count=arguments.rounds or 3)
        sys.stdout.write(table(results) + "\n")
        write_down("bench.json", {"machine": about, "rows": as_json(results)})
        return
    with contextlib.ExitStack() as stack:
        try:
            name, tree = stack.enter_context(tree_of(arguments.against))
        except RevisionError as error:
            parser.error(f"--against {arguments.against}: {error}")
        kinds = {
            FLOOR: Floor,
            "ours": functools.partial(TreeGateway, HERE),
            name: functools.partial(TreeGateway, tree),
        }
        results = measured(kinds, count=arguments.rounds or 6)
    sys.stdout.write(against_table(results, "ours", name) + "\n")
    write_down("bench-against.json", {"machine": about, "against": name, "rows": as_json(results)})


if __name__ == "__main__":
    main()
