"""What can be asked of the spool's writer, and the SQL that does it.

Runs in the writer's thread, inside a transaction.

Operations of one kind in one batch become few statements: each statement gives up Python's lock and
has to win it back, which under load costs more than the statement itself.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw
import orjson

from mailrelay_gateway.message.envelope import INLINE_BODY_LIMIT, Identity, Message
from mailrelay_gateway.policy.problem import Problem
from mailrelay_gateway.queue.item import Job, Move, Recipient, State

Done = Callable[[Problem | None], None]

FLAG_EIGHT_BIT = 1
FLAG_SMTPUTF8 = 2
#: Dead letters kept; the oldest goes first. They are for people to look at, not a second queue.
MAX_DEAD_LETTERS = 1000
#: Rows per statement when many messages are stored at once.
_ROW_CHUNKS = (32, 16, 8, 4, 2, 1)

_MESSAGE_COLUMNS = 15
_RECIPIENT_COLUMNS = 12


@dataclass(slots=True, eq=False)
class Store:
    """Store a message; `leased` takes the lease of its first attempt along, in the same
    transaction.
    """

    job: Job
    upstream: str
    leased: bool
    done: Done


@dataclass(slots=True, eq=False)
class Lease:
    """Mark the jobs as being tried at `upstream`, and load the bodies that are not in memory."""

    jobs: Sequence[Job]
    upstream: str
    done: Done


@dataclass(slots=True, eq=False)
class Finish:
    """Carry out what an attempt came to; `notices` are notifications stored in the same
    transaction.
    """

    job: Job
    moves: Sequence[Move]
    upstream: str
    now: float
    notices: Sequence[Store]
    done: Done
    emptied: bool = False  # set by the writer: no recipient is left, the message went


@dataclass(slots=True, eq=False)
class Call:
    """Anything rarer: `run` is called with the connection, `done` in the loop."""

    run: Callable[[apsw.Connection], None]
    done: Done


Operation = Store | Lease | Finish | Call


@dataclass(slots=True)
class Effects:
    """What the transaction leaves to do after its commit."""

    unlink: list[Path] = field(default_factory=list)
    sync_folder: bool = False


def run_batch(
    connection: apsw.Connection, operations: Sequence[Operation], bodies: Path
) -> Effects:
    """Carry out all operations in the open transaction.

    Raises apsw.Error; then nothing of it may be committed.
    """
    effects = Effects()
    stores = [op for op in operations if isinstance(op, Store)]
    finishes = [op for op in operations if isinstance(op, Finish)]
    for finish in finishes:
        stores.extend(finish.notices)
    if stores:
        _store(connection, stores, effects)
    for op in operations:
        if isinstance(op, Lease):
            _lease(connection, op, bodies)
    if finishes:
        _finish(connection, finishes, effects, bodies)
    for op in operations:
        if isinstance(op, Call):
            op.run(connection)
    return effects


def _insert(
    connection: apsw.Connection, table: str, columns: int, rows: Sequence[tuple[Any, ...]]
) -> None:
    """Insert rows with as few statements as the chunk sizes allow."""
    start = 0
    one = "(" + ",".join("?" * columns) + ")"
    for chunk in _ROW_CHUNKS:
        while len(rows) - start >= chunk:
            values: list[Any] = []
            for row in rows[start : start + chunk]:
                values.extend(row)
            connection.execute(
                f"INSERT INTO {table} VALUES " + ",".join([one] * chunk),  # noqa: S608
                values,
            )
            start += chunk


def _store(connection: apsw.Connection, stores: Sequence[Store], effects: Effects) -> None:
    messages = []
    recipients: list[tuple[Any, ...]] = []
    for op in stores:
        job = op.job
        message = job.message
        identity = message.identity
        body: bytes | None
        if isinstance(message.body, bytes):
            file, body = None, message.body
        else:
            file, body = message.body.name, None
            effects.sync_folder = True
        flags = FLAG_EIGHT_BIT * message.eight_bit + FLAG_SMTPUTF8 * message.smtputf8
        messages.append(
            (
                job.seq,
                message.queue_id,
                message.sender,
                orjson.dumps(message.recipients).decode(),
                identity.namespace,
                identity.name,
                identity.uid,
                identity.username,
                message.listener,
                message.received_at,
                message.size,
                flags,
                message.message_id,
                file,
                body,
            )
        )
        state = int(State.LEASED if op.leased else State.READY)
        recipients.extend(
            (
                job.seq,
                r.index,
                r.address,
                state,
                0,
                None,
                None,
                0,
                op.upstream,
                message.size,
                "",
                "",
            )
            for r in job.recipients
        )
    _insert(connection, "messages", _MESSAGE_COLUMNS, messages)
    _insert(connection, "recipients", _RECIPIENT_COLUMNS, recipients)


def _lease(connection: apsw.Connection, op: Lease, bodies: Path) -> None:
    whole = [job.seq for job in op.jobs if len(job.message.recipients) == 1]
    if whole:
        connection.execute(
            f"UPDATE recipients SET state={int(State.LEASED)}, next_at=NULL, upstream=?"  # noqa: S608
            " WHERE seq IN (SELECT value FROM json_each(?))",
            (op.upstream, json.dumps(whole)),
        )
    rest = [
        (op.upstream, job.seq, r.index)
        for job in op.jobs
        if len(job.message.recipients) != 1
        for r in job.recipients
    ]
    if rest:
        connection.executemany(
            f"UPDATE recipients SET state={int(State.LEASED)}, next_at=NULL, upstream=?"  # noqa: S608
            " WHERE seq=? AND n=?",
            rest,
        )
    # Recipients of one message that part ways are several jobs, and each of them needs the body.
    missing: dict[int, list[Job]] = {}
    for job in op.jobs:
        if not job.body_loaded:
            missing.setdefault(job.seq, []).append(job)
    if missing:
        for seq, file, body in connection.execute(
            "SELECT seq, file, body FROM messages WHERE seq IN (SELECT value FROM json_each(?))",
            (json.dumps(list(missing)),),
        ):
            for job in missing[seq]:
                job.message = _with_body(job.message, body if file is None else bodies / file)
                job.body_loaded = True


def _finish(
    connection: apsw.Connection, finishes: Sequence[Finish], effects: Effects, bodies: Path
) -> None:
    emptied: list[int] = []  # single recipients that go: message and recipient by one number
    gone: list[tuple[int, int]] = []
    maybe_empty: dict[int, Finish] = {}
    stay: list[tuple[Any, ...]] = []
    for op in finishes:
        seq = op.job.seq
        for move in op.moves:
            if move.failed:
                _bury(connection, op, move)
            if move.state is None:
                if len(op.job.message.recipients) == 1:
                    emptied.append(seq)
                    op.emptied = True
                    if isinstance(op.job.message.body, Path):
                        effects.unlink.append(op.job.message.body)
                else:
                    gone.append((seq, move.recipient.index))
                    maybe_empty[seq] = op
            else:
                r = move.recipient
                stay.append(
                    (
                        int(move.state),
                        r.attempts,
                        r.first_tried_at,
                        move.next_at,
                        int(r.pinned),
                        op.upstream,
                        move.reason.value,
                        move.reply,
                        seq,
                        r.index,
                    )
                )
    if emptied:
        numbers = (json.dumps(emptied),)
        inside = "seq IN (SELECT value FROM json_each(?))"
        connection.execute(f"DELETE FROM recipients WHERE {inside}", numbers)  # noqa: S608
        connection.execute(f"DELETE FROM messages WHERE {inside}", numbers)  # noqa: S608
    if gone:
        connection.executemany("DELETE FROM recipients WHERE seq=? AND n=?", gone)
        for seq, file in connection.execute(
            "DELETE FROM messages WHERE seq IN (SELECT value FROM json_each(?)) AND NOT EXISTS"
            " (SELECT 1 FROM recipients WHERE recipients.seq = messages.seq) RETURNING seq, file",
            (json.dumps(list(maybe_empty)),),
        ):
            maybe_empty[seq].emptied = True
            if file is not None:
                effects.unlink.append(bodies / file)
    if stay:
        connection.executemany(
            "UPDATE recipients SET state=?, attempts=?, first_tried_at=?, next_at=?, pinned=?,"
            " upstream=?, reason=?, reply=? WHERE seq=? AND n=?",
            stay,
        )


def _bury(connection: apsw.Connection, op: Finish, move: Move) -> None:
    """Copy a failed recipient's message to the dead letters, which stay bounded."""
    message = op.job.message
    if isinstance(message.body, Path):
        try:
            with message.body.open("rb") as file:
                body = file.read(INLINE_BODY_LIMIT)
        except OSError:  # damage to one file must not stop the spool
            body = b""
    else:
        body = message.body
    connection.execute(
        "INSERT INTO dead_letters (id, recipient, address, sender, namespace, name, upstream,"
        " reason, reply, attempts, received_at, failed_at, size, message)"
        " VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
        (
            message.queue_id,
            move.recipient.index,
            move.recipient.address,
            message.sender,
            message.identity.namespace,
            message.identity.name,
            op.upstream,
            move.reason.value,
            move.reply,
            move.recipient.attempts,
            message.received_at,
            op.now,
            message.size,
            body,
        ),
    )
    connection.execute(
        "DELETE FROM dead_letters WHERE n <= (SELECT max(n) FROM dead_letters) - ?",
        (MAX_DEAD_LETTERS,),
    )


def _with_body(message: Message, body: bytes | Path) -> Message:
    return Message(
        queue_id=message.queue_id,
        sender=message.sender,
        recipients=message.recipients,
        identity=message.identity,
        listener=message.listener,
        received_at=message.received_at,
        size=message.size,
        body=body,
        eight_bit=message.eight_bit,
        smtputf8=message.smtputf8,
        message_id=message.message_id,
    )


_JOB_QUERY = (
    "SELECT r.seq, r.n, r.address, r.attempts, r.first_tried_at, r.pinned, r.upstream, m.id,"
    " m.sender, m.recipients, m.namespace, m.name, m.uid, m.username, m.listener, m.received_at,"
    " m.size, m.flags, m.message_id FROM recipients r JOIN messages m ON m.seq = r.seq "
)


def read_jobs(connection: apsw.Connection, where: str, values: Sequence[Any]) -> list[Job]:
    """Jobs (without bodies) of the recipients that `where` selects: one a message, upstream and
    pin.
    """
    jobs: dict[tuple[int, str, bool], Job] = {}
    for row in connection.execute(_JOB_QUERY + where, tuple(values)):
        (seq, n, address, attempts, first, pinned, upstream, *message_columns) = row
        recipient = Recipient(n, address, attempts, first, bool(pinned))
        job = jobs.get((seq, upstream, bool(pinned)))
        if job is None:
            message = _message(message_columns)
            job = Job(seq, message, (recipient,), body_loaded=False, upstream=upstream)
            jobs[(seq, upstream, bool(pinned))] = job
        else:
            job.recipients = (*job.recipients, recipient)
    return list(jobs.values())


def _message(columns: Sequence[Any]) -> Message:
    (ident, sender, recipients, namespace, name, uid, username, listener, at, size, flags, mid) = (
        columns
    )
    return Message(
        queue_id=ident,
        sender=sender,
        recipients=tuple(orjson.loads(recipients)),
        identity=Identity(namespace=namespace, name=name, uid=uid, username=username),
        listener=listener,
        received_at=at,
        size=size,
        body=b"",
        eight_bit=bool(flags & FLAG_EIGHT_BIT),
        smtputf8=bool(flags & FLAG_SMTPUTF8),
        message_id=mid,
    )
