"""Inserts messages as rows. Runs in the writer's thread, inside its transaction.

Reads nothing: a row needs only the arguments, and numbers kept in memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mailrelay_gateway.message.envelope import Message
from mailrelay_gateway.queue.disk.schema import (
    FLAG_BULK,
    FLAG_DSN,
    FLAG_EIGHT_BIT,
    FLAG_LONG_LINES,
    FLAG_SMTPUTF8,
)
from mailrelay_gateway.queue.disk.tables import Effects, Tables
from mailrelay_gateway.queue.item import Move, State
from mailrelay_gateway.queue.store import Entry
from mailrelay_gateway.smtp.dsn import to_json

MESSAGE_COLUMNS = 13
RECIPIENT_COLUMNS = 15
DSN_COLUMNS = 2


def accept(tables: Tables, entries: Sequence[Entry], effects: Effects) -> None:
    """Store messages, with the leases of first attempts."""
    messages = []
    parameters = []
    recipients: list[tuple[Any, ...]] = []
    # Most messages of a batch have the very same identity and route: looked up by object, which
    # costs less than by value.
    identities: dict[int, tuple[int, int]] = {}
    routes: dict[int, int] = {}
    for entry in entries:
        seq, message = entry.seq, entry.message
        size = message.size
        numbers = identities.get(id(message.identity))
        if numbers is None:
            numbers = tables.names.identity(message.identity)
            identities[id(message.identity)] = numbers
        messages.append(message_row(tables, seq, message, numbers[0], effects))
        if message.dsn is not None:
            parameters.append((message.queue_id, to_json(message.dsn)))
        sender = numbers[1]
        for part in entry.parts:
            route = routes.get(id(part.route))
            if route is None:
                route = routes[id(part.route)] = tables.names.route(part.route)
            upstream = part.leased_at
            state = 0 if upstream is None else 1
            for r in part.recipients:
                recipients.append(  # noqa: PERF401 - faster than a list of one, which it mostly is
                    (
                        seq,
                        r.index,
                        route,
                        sender,
                        state,
                        r.pinned,
                        r.attempts,
                        size,
                        r.waited,
                        r.first_tried_at,
                        None,
                        upstream or "",
                        r.address,
                        "",
                        "",
                    )
                )
    tables.insert("messages", MESSAGE_COLUMNS, messages)
    tables.insert("recipients", RECIPIENT_COLUMNS, recipients)
    tables.insert("dsn", DSN_COLUMNS, parameters)


def message_row(
    tables: Tables, seq: int, message: Message, identity: int, effects: Effects
) -> tuple[Any, ...]:
    """The row of a message. ValueError if its size is not `size`: it would never be sent."""
    stored = message.body
    if isinstance(stored, bytes):
        place, body, octets = None, stored, len(stored)
    else:
        place, body, octets = tables.bodies.place(stored), None, stored.size
        effects.sync_folder = True
    if octets + len(message.prelude) != message.size:
        raise ValueError(
            f"message {message.queue_id} has {octets + len(message.prelude)} octets,"
            f" its size says {message.size}"
        )
    return (
        seq,
        message.queue_id,
        message.envelope_sender,
        identity,
        message.recipient_count,
        message.listener,
        message.received_at,
        message.size,
        FLAG_EIGHT_BIT * message.eight_bit
        + FLAG_SMTPUTF8 * message.smtputf8
        + FLAG_LONG_LINES * message.long_lines
        + FLAG_DSN * (message.dsn is not None)
        + FLAG_BULK * message.bulk,
        message.message_id,
        place,
        message.prelude,
        body,
    )


def adopt(tables: Tables, entry: Entry, states: Mapping[int, Move], effects: Effects) -> None:
    """Take a message over, unless it is here or was."""
    message = entry.message
    queue_id = message.queue_id
    here = tables.connection.execute("SELECT 1 FROM messages WHERE id=?", (queue_id,)).get
    if here is not None:
        return
    if not isinstance(message.body, bytes):
        tables.bodies.place(message.body)
    if is_known(tables, queue_id):
        if not isinstance(message.body, bytes):
            effects.unlink.append(message.body.path)  # type: ignore[attr-defined]
        return
    identity, sender = tables.names.identity(message.identity)
    rows = []
    for part in entry.parts:
        for recipient in part.recipients:
            move = states.get(recipient.index)
            if move is None:
                route, state, upstream = part.route, State.READY, ""
                next_at, reason, reply = None, "", ""
                if part.leased_at is not None:
                    state, upstream = State.LEASED, part.leased_at
            elif move.state is None:
                continue  # it had ended there
            else:
                recipient, route, state = move.recipient, move.route, move.state
                upstream = part.leased_at or "".join(route.upstreams[:1])
                next_at, reason, reply = move.next_at, move.reason.value, move.reply
            rows.append(
                (
                    entry.seq,
                    recipient.index,
                    tables.names.route(route),
                    sender,
                    int(state),
                    recipient.pinned,
                    recipient.attempts,
                    message.size,
                    recipient.waited,
                    recipient.first_tried_at,
                    next_at,
                    upstream,
                    recipient.address,
                    reason,
                    reply,
                )
            )
    if not rows:
        return
    row = message_row(tables, entry.seq, message, identity, effects)
    tables.insert("messages", MESSAGE_COLUMNS, [row])
    tables.insert("recipients", RECIPIENT_COLUMNS, rows)
    if message.dsn is not None:
        tables.insert("dsn", DSN_COLUMNS, [(queue_id, to_json(message.dsn))])
    bury_name(tables, queue_id, entry.seq)
    effects.adopted.add(entry.seq)


def is_known(tables: Tables, queue_id: str) -> bool:
    """Whether a message is here, or was here and came from elsewhere."""
    return bool(
        tables.connection.execute(
            "SELECT EXISTS (SELECT 1 FROM messages WHERE id=?1)"
            " OR EXISTS (SELECT 1 FROM tombstones WHERE id=?1)",
            (queue_id,),
        ).get
    )


def bury_name(tables: Tables, queue_id: str, seq: int) -> None:
    """A tombstone for a message that comes from elsewhere."""
    tables.connection.execute(
        "INSERT OR REPLACE INTO tombstones (id, seq, left_at) VALUES (?,?,NULL)", (queue_id, seq)
    )
