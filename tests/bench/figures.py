"""What measurements come to: medians, multiples of the floor and of Postfix, paired ratios, tables.

Pure.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

FLOOR, POSTFIX = "floor", "postfix"


@dataclass(frozen=True, slots=True)
class Measured:
    """One measurement: messages a second, CPU milliseconds a message, peak memory in MiB."""

    rate: float
    cpu_ms: float
    memory_mib: float


def middle(found: Sequence[Measured]) -> Measured:
    """The median of each figure."""
    return Measured(
        rate=statistics.median(each.rate for each in found),
        cpu_ms=statistics.median(each.cpu_ms for each in found),
        memory_mib=statistics.median(each.memory_mib for each in found),
    )


@dataclass(frozen=True, slots=True)
class Paired:
    """The ratios of measurements made in pairs: their median, the lowest and the highest."""

    median: float
    lowest: float
    highest: float


def paired(
    ours: Sequence[Measured], theirs: Sequence[Measured], figure: Callable[[Measured], float]
) -> Paired:
    """Ours to theirs, round by round.

    The median of the ratios, not the ratio of the medians: what disturbs the machine for a while
    disturbs both of a pair.
    """
    ratios = [figure(a) / figure(b) for a, b in zip(ours, theirs, strict=True)]
    return Paired(median=statistics.median(ratios), lowest=min(ratios), highest=max(ratios))


def turns(kinds: Sequence[str], rounds: int) -> list[str]:
    """Who is measured when: A B, B A, A B, ... so that neither always comes second."""
    return [kind for n in range(rounds) for kind in (kinds if n % 2 == 0 else kinds[::-1])]


def multiples(
    by_relay: Mapping[str, Sequence[Measured]], of: str
) -> dict[str, tuple[Paired, Paired]]:
    """Rate and CPU of each relay as a multiple of `of`, paired by round; empty without `of`."""
    base = by_relay.get(of)
    if base is None:
        return {}
    return {
        name: (paired(each, base, lambda m: m.rate), paired(each, base, lambda m: m.cpu_ms))
        for name, each in by_relay.items()
    }


def table(results: Mapping[str, Mapping[str, Sequence[Measured]]]) -> str:
    """The results for people: a block a row of load, a line a relay."""
    lines = [
        f"{'':30}{'messages/s':>10}{'x floor':>9}{'x Postfix':>11}"
        f"{'CPU ms/message':>17}{'x floor':>9}{'x Postfix':>11}{'peak MiB':>10}"
    ]
    for row, by_relay in results.items():
        lines.append(row)
        floor, postfix = multiples(by_relay, FLOOR), multiples(by_relay, POSTFIX)
        for name, found in by_relay.items():
            median = middle(found)
            of_floor, of_postfix = (
                [f"{each.median:.2f}" for each in of[name]] if of else ["-", "-"]
                for of in (floor, postfix)
            )
            lines.append(
                f"  {name:28}{median.rate:10.0f}{of_floor[0]:>9}{of_postfix[0]:>11}"
                f"{median.cpu_ms:17.3f}{of_floor[1]:>9}{of_postfix[1]:>11}{median.memory_mib:10.0f}"
            )
    return "\n".join(lines)


def against_table(
    results: Mapping[str, Mapping[str, Sequence[Measured]]], ours: str, theirs: str
) -> str:
    """Two revisions for people: CPU and rate, ours to theirs, and each one's CPU over the floor."""
    lines = [
        f"{'':32}{'CPU a message':^25}{'rate':^25}{'CPU, x floor':^20}",
        f"{'':32}{'ratio':>8}{'lowest..highest':>17}{'ratio':>8}{'lowest..highest':>17}"
        f"{ours:>10}{theirs:>10}",
    ]
    for row, by_relay in results.items():
        line = f"{row:32}"
        for figure in (lambda m: m.cpu_ms, lambda m: m.rate):
            ratio = paired(by_relay[ours], by_relay[theirs], figure)
            line += f"{ratio.median:8.3f}{f'{ratio.lowest:.2f}..{ratio.highest:.2f}':>17}"
        floor = multiples(by_relay, FLOOR)
        for name in (ours, theirs):
            line += f"{floor[name][1].median:10.2f}" if floor else f"{'-':>10}"
        lines.append(line)
    return "\n".join(lines)


def as_json(results: Mapping[str, Mapping[str, Sequence[Measured]]]) -> dict[str, object]:
    """The results for machines: medians, and multiples with their spread."""
    rows: dict[str, object] = {}
    for row, by_relay in results.items():
        relays: dict[str, dict[str, object]] = {}
        for name, found in by_relay.items():
            median = middle(found)
            relays[name] = {
                "rate": median.rate,
                "cpu_ms": median.cpu_ms,
                "memory_mib": median.memory_mib,
            }
        for of in by_relay:
            for name, (rate, cpu) in multiples(by_relay, of).items():
                if name != of:
                    relays[name][f"of_{of}"] = {"rate": _spread(rate), "cpu": _spread(cpu)}
        rows[row] = relays
    return rows


def _spread(ratio: Paired) -> dict[str, float]:
    return {"median": ratio.median, "lowest": ratio.lowest, "highest": ratio.highest}
