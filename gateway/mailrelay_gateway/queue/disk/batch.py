"""The operations for the writer, and how a batch of them becomes one transaction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mailrelay_gateway.queue.disk.accepting import accept
from mailrelay_gateway.queue.disk.finishing import finish
from mailrelay_gateway.queue.disk.tables import Effects, Tables
from mailrelay_gateway.queue.store import Done, Ended, Entry


@dataclass(slots=True, eq=False)
class Accept:
    """Store a message."""

    entry: Entry
    done: Done


@dataclass(slots=True, eq=False)
class Finish:
    """Record the result of an attempt."""

    ended: Ended
    done: Done


@dataclass(slots=True, eq=False)
class Call:
    """Anything rarer: `run` works in the transaction, and its answer is passed to `done` in the
    loop. `queue_id`: the message that it adds, if any.
    """

    run: Callable[[Tables, Effects], Any]
    done: Callable[[Any], None]
    queue_id: str | None = None


Operation = Accept | Finish | Call


def added(operation: Operation) -> str | None:
    """The queue id of the message that an operation adds; None: it adds none."""
    if isinstance(operation, Accept):
        return operation.entry.message.queue_id
    return operation.queue_id if isinstance(operation, Call) else None


def run_batch(
    tables: Tables, operations: Sequence[Operation], effects: Effects
) -> list[tuple[Operation, Any]]:
    """Carry out all operations in the open transaction: their answers, in the order in which they
    were done. A claim is answered with everything that it could find.

    Work for after the commit is added to `effects`. Raises what SQLite raises; then nothing of it
    may be committed.
    """
    entries: list[Entry] = []
    endings: list[Ended] = []
    for op in operations:
        if isinstance(op, Accept):
            entries.append(op.entry)
        elif isinstance(op, Finish):
            endings.append(op.ended)
            entries.extend(op.ended.notices)
    if entries:
        accept(tables, entries, effects)
    if endings:
        finish(tables, endings, effects)
    answers: list[tuple[Operation, Any]] = [
        (op, None) for op in operations if not isinstance(op, Call)
    ]
    return answers + [(op, op.run(tables, effects)) for op in operations if isinstance(op, Call)]
