"""Claims: READY recipients become leased jobs, with their bodies. Runs in the writer's thread,
inside its transaction.

A claim reads `recipients_ready` from the sender's oldest message on, so that its cost does not
depend on the size of the backlog.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import apsw

from mailrelay_gateway.file_body import FileBody
from mailrelay_gateway.message.body import Body
from mailrelay_gateway.message.envelope import Identity, Message
from mailrelay_gateway.queue.disk.schema import (
    FLAG_BULK,
    FLAG_DSN,
    FLAG_EIGHT_BIT,
    FLAG_LONG_LINES,
    FLAG_SMTPUTF8,
)
from mailrelay_gateway.queue.disk.tables import Bodies, Effects, Tables
from mailrelay_gateway.queue.item import Job, Recipient, State
from mailrelay_gateway.queue.store import Want
from mailrelay_gateway.reasons import Reason
from mailrelay_gateway.smtp.dsn import DsnParameters, from_json

#: Recipients of one job: as many as any upstream accepts in one transaction (Postfix offers 1,000).
MAX_RECIPIENTS = 1_000

#: Of `messages`, in the order that `read_message` takes them.
MESSAGE_COLUMNS = (
    "id, sender, identity, recipient_count, listener, received_at, size, flags, message_id, place,"
    " prelude, body"
)

#: Found by the messages' numbers (the plus signs forbid `recipients_ready`, of which SQLite would
#: read all of the route).
_READY_OF_THESE = (
    f"seq IN (SELECT value FROM json_each(?)) AND +route=? AND +state={int(State.READY)}"
)


class BodyDamaged(Exception):
    """A body is not as it was stored; the text says how."""


@dataclass(slots=True)
class _Candidate:
    """Recipients that may become one job. `whole`: all that are READY there, and pinned alike."""

    seq: int
    recipients: list[Recipient]
    whole: bool


def claim(
    tables: Tables, wants: Sequence[Want], *, put_off_until: float, effects: Effects
) -> list[Job]:
    """Lease what is wanted, and return it in the order of `wants`."""
    jobs: list[Job] = []
    for want in wants:
        route = tables.names.known_route(want.route)
        sender = tables.names.known_sender(want.sender)
        if route is not None and sender is not None:
            _claim_one(tables, want, route, sender, jobs, put_off_until, effects)
    return jobs


def _claim_one(
    tables: Tables,
    want: Want,
    route: int,
    sender: int,
    jobs: list[Job],
    put_off_until: float,
    effects: Effects,
) -> None:
    given = octets = 0
    damaged: set[int] = set()
    whole: list[int] = []
    parts: list[tuple[str, int, int]] = []
    message: Message | None = None
    seq = 0
    for candidate in _candidates(tables.connection, route, sender):
        if given == want.messages:
            break
        if candidate.seq in damaged:
            continue
        if message is None or candidate.seq != seq:
            seq = candidate.seq
            try:
                message = _load(tables, seq)
            except BodyDamaged as error:
                damaged.add(seq)
                queue_id = tables.connection.execute(
                    "SELECT id FROM messages WHERE seq=?", (seq,)
                ).get
                effects.damaged.append((queue_id or f"number {seq}", str(error)))
                message = None
                continue
            if isinstance(message.body, bytes):
                octets += len(message.body)
            if octets > want.octets and given:
                break
        job = Job(seq, message, want.route, tuple(candidate.recipients), want.upstream)
        jobs.append(job)
        given += 1
        if candidate.whole:
            whole.append(seq)
        else:
            parts.extend((want.upstream, seq, r.index) for r in job.recipients)
    _mark(tables, route, whole, parts, want.upstream)
    if damaged:
        tables.connection.execute(
            f"UPDATE recipients SET state={int(State.DEFERRED)}, next_at=?, reason=?, reply=''"
            f" WHERE {_READY_OF_THESE}",
            (put_off_until, Reason.INTERNAL_ERROR.value, json.dumps(list(damaged)), route),
        )


def _mark(
    tables: Tables, route: int, whole: list[int], parts: list[tuple[str, int, int]], upstream: str
) -> None:
    leased = f"UPDATE recipients SET state={int(State.LEASED)}, next_at=NULL, upstream=? WHERE "
    if whole:
        tables.connection.execute(
            leased + _READY_OF_THESE,
            (upstream, json.dumps(whole), route),
        )
    if parts:
        tables.connection.executemany(leased + "seq=? AND n=?", parts)


def _candidates(connection: apsw.Connection, route: int, sender: int) -> Iterator[_Candidate]:
    """What is READY, oldest message first; rows are read only as far as the caller asks."""
    rows = connection.execute(
        "SELECT seq, n, address, attempts, first_tried_at, waited, pinned FROM recipients"
        f" WHERE state={int(State.READY)} AND route=? AND sender=? ORDER BY seq, n",
        (route, sender),
    )
    seq: int | None = None
    open_: list[list[Recipient]] = [[], []]  # not pinned, and pinned
    cut = False
    try:
        for number, n, address, attempts, first, waited, pinned in rows:
            if number != seq:
                if seq is not None:
                    yield from _close(seq, open_, cut)
                seq, open_, cut = number, [[], []], False
            recipients = open_[pinned]
            recipients.append(Recipient(n, address, attempts, first, waited, bool(pinned)))
            if len(recipients) == MAX_RECIPIENTS:
                yield _Candidate(number, recipients, whole=False)
                open_[pinned] = []
                cut = True
        if seq is not None:
            yield from _close(seq, open_, cut)
    finally:
        rows.close()  # an open read would keep the log from being emptied


def _close(seq: int, found: list[list[Recipient]], cut: bool) -> Iterator[_Candidate]:
    whole = not cut and not (found[0] and found[1])
    for recipients in found:
        if recipients:
            yield _Candidate(seq, recipients, whole)


def _load(tables: Tables, seq: int) -> Message:
    """A message with its body; BodyDamaged if the body is incomplete."""
    row = tables.connection.execute(
        f"SELECT {MESSAGE_COLUMNS} FROM messages WHERE seq=?",
        (seq,),
    ).get
    if row is None:
        raise BodyDamaged("the message does not exist")
    message = read_message(tables.connection, row, tables.names.identity_of(row[2]), tables.bodies)
    check_body(message)
    return message


def read_message(
    connection: apsw.Connection, row: tuple[Any, ...], identity: Identity, bodies: Bodies
) -> Message:
    """A message from its columns."""
    (ident, sender, _, count, listener, at, size, flags, message_id, place, prelude, body) = row
    there: Body
    if place is None:
        there = body if isinstance(body, bytes) else b""
    else:
        there = FileBody(bodies.file(place), size - len(prelude))
    return Message(
        queue_id=ident,
        envelope_sender=sender,
        recipient_count=count,
        identity=identity,
        listener=listener,
        received_at=at,
        size=size,
        prelude=prelude,
        body=there,
        eight_bit=bool(flags & FLAG_EIGHT_BIT),
        smtputf8=bool(flags & FLAG_SMTPUTF8),
        bulk=bool(flags & FLAG_BULK),
        long_lines=bool(flags & FLAG_LONG_LINES),
        dsn=_read_dsn(connection, ident) if flags & FLAG_DSN else None,
        message_id=message_id,
    )


def _read_dsn(connection: apsw.Connection, ident: str) -> DsnParameters | None:
    """None: they are lost, since the message was salvaged."""
    found = connection.execute("SELECT parameters FROM dsn WHERE id=?", (ident,)).get
    return None if found is None else from_json(found)


def check_body(message: Message) -> None:
    """Raise BodyDamaged unless the body has as many octets as were stored."""
    expected = message.size - len(message.prelude)
    if isinstance(message.body, bytes):
        found = len(message.body)
    else:
        assert isinstance(message.body, FileBody)
        try:
            found = message.body.path.stat().st_size
        except OSError as error:
            raise BodyDamaged(f"{message.body.path}: {error.strerror}") from None
    if found != expected:
        raise BodyDamaged(f"the body has {found} octets, {expected} were stored")
