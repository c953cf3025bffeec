"""Records the results of attempts. Runs in the writer's thread, inside its transaction.

Attempts that end alike share statements, and a message that is removed with its last recipient
needs no read.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mailrelay_gateway.file_body import FileBody
from mailrelay_gateway.queue.disk.tables import Effects, Tables
from mailrelay_gateway.queue.item import State
from mailrelay_gateway.queue.store import Ended

_INSIDE = "seq IN (SELECT value FROM json_each(?))"


def finish(tables: Tables, endings: Sequence[Ended], effects: Effects) -> None:
    """Remove recipients, make them dead letters or keep them, and remove the messages that have
    none left.
    """
    connection = tables.connection
    emptied: dict[int, Ended] = {}  # messages that are removed whole, with their recipients
    gone: list[tuple[int, int]] = []
    maybe_empty: dict[int, Ended] = {}
    staying: list[Ended] = []
    for ended in endings:
        job, moves = ended.job, ended.moves
        leaving = failed = 0
        for move in moves:
            if move.state is None:
                leaving += 1
                failed += move.failed
        if failed:
            buried = [move for move in moves if move.failed]
            tables.dead.bury(job.message, buried, upstream=ended.upstream, now=ended.now)
        if leaving == job.message.recipient_count:
            emptied[job.seq] = ended
            continue
        if leaving:
            gone.extend((job.seq, move.recipient.index) for move in moves if move.state is None)
            maybe_empty[job.seq] = ended
        if leaving < len(moves):
            staying.append(ended)
    if staying:
        _keep(tables, staying)
    if emptied:
        numbers = (json.dumps(list(emptied)),)
        connection.execute(f"DELETE FROM recipients WHERE {_INSIDE}", numbers)
        connection.execute(f"DELETE FROM messages WHERE {_INSIDE}", numbers)
        for ended in emptied.values():
            _forget_dsn(tables, ended)
            body = ended.job.message.body
            if isinstance(body, FileBody):
                effects.unlink.append(body.path)
            _note_leaving(tables, ended, effects)
    if gone:
        connection.executemany("DELETE FROM recipients WHERE seq=? AND n=?", gone)
        for seq, file in remove_empty(tables, list(maybe_empty)):
            if file is not None:
                effects.unlink.append(file)
            _forget_dsn(tables, maybe_empty[seq])
            _note_leaving(tables, maybe_empty[seq], effects)


def remove_empty(tables: Tables, seqs: Sequence[int]) -> list[tuple[int, Path | None]]:
    """Remove those of these messages without recipients; returns their numbers and files."""
    return [
        (seq, None if place is None else tables.bodies.file(place))
        for seq, place in tables.connection.execute(
            f"DELETE FROM messages WHERE {_INSIDE} AND NOT EXISTS"
            " (SELECT 1 FROM recipients WHERE recipients.seq = messages.seq) RETURNING seq, place",
            (json.dumps(list(seqs)),),
        )
    ]


def _keep(tables: Tables, endings: Sequence[Ended]) -> None:
    """Recipients that stay. Those of a message in the same state are one row."""
    single: list[tuple[Any, ...]] = []
    several: list[tuple[Any, ...]] = []
    routes: dict[int, int] = {}
    for ended in endings:
        alike: dict[tuple[Any, ...], list[int]] = {}
        for move in ended.moves:
            if move.state is None:
                continue
            route = routes.get(id(move.route))
            if route is None:
                route = routes[id(move.route)] = tables.names.route(move.route)
            r = move.recipient
            values = (
                int(move.state),
                route,
                r.pinned,
                r.attempts,
                r.waited,
                r.first_tried_at,
                None if move.state is State.READY else move.next_at,
                ended.upstream,
                move.reason.value,
                move.reply,
                ended.job.seq,
            )
            alike.setdefault(values, []).append(r.index)
        for values, indices in alike.items():
            if len(indices) == 1:
                single.append((*values, indices[0]))
            else:
                several.append((*values, json.dumps(indices)))
    update = (
        "UPDATE recipients SET state=?, route=?, pinned=?, attempts=?, waited=?, first_tried_at=?,"
        " next_at=?, upstream=?, reason=?, reply=? WHERE seq=? AND "
    )
    if single:
        tables.connection.executemany(update + "n=?", single)
    if several:
        tables.connection.executemany(update + "n IN (SELECT value FROM json_each(?))", several)


def _forget_dsn(tables: Tables, ended: Ended) -> None:
    """The message is gone: its DSN parameters too."""
    message = ended.job.message
    if message.dsn is not None:
        tables.connection.execute("DELETE FROM dsn WHERE id=?", (message.queue_id,))


def _note_leaving(tables: Tables, ended: Ended, effects: Effects) -> None:
    if ended.job.seq in tables.adopted:
        tables.connection.execute(
            "UPDATE tombstones SET left_at=? WHERE id=?", (ended.now, ended.job.message.queue_id)
        )
        effects.left.add(ended.job.seq)
