"""Other databases that contained mail, read message by message: schema 1, and schema 2 from
elsewhere.

Reading continues after damage: what cannot be read is counted. Read-only.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import orjson

from mailrelay_gateway.message.envelope import Identity
from mailrelay_gateway.message.route import Route
from mailrelay_gateway.queue.disk.foreign import ForeignLetter, ForeignMessage, ForeignRecipient
from mailrelay_gateway.queue.disk.schema import IN_FILE

#: What reading a damaged page raises.
DAMAGE = (apsw.CorruptError, apsw.NotADBError, apsw.IOError)

#: The longest pause of schema 1's day (`retry.maxInterval`, by default): what it waited is at most
#: so much for each attempt.
FORMER_MAX_INTERVAL = 3600.0


class _Sqlite:
    """Common to both schemas."""

    #: Columns of `messages` without those that may be in overflow pages.
    columns: str

    def __init__(self, connection: apsw.Connection, *, strict: bool) -> None:
        """`strict` raises at the first damage instead of continuing."""
        self.connection = connection
        self.lost = 0
        self._strict = strict

    def messages(self) -> Iterator[ForeignMessage]:
        """See Source."""
        read: set[int] = set()
        for row in self._rows(f"SELECT {self.columns} FROM messages"):
            read.add(row[0])
            try:
                message = self._message(row)
                message.recipients = self._recipients(row[0])
            except (*DAMAGE, TypeError, ValueError):
                if self._strict:
                    raise
                self.lost += 1
                continue
            if message.recipients:
                yield message
            else:
                self.lost += 1
        if not self._strict:
            self.lost += len(
                {seq for (seq,) in self._rows("SELECT DISTINCT seq FROM recipients")} - read
            )

    def letters(self) -> Iterator[ForeignLetter]:
        """See Source."""
        try:
            yield from self._letters()
        except DAMAGE:  # only for inspection: no effort is made for damaged rows
            if self._strict:
                raise

    def _rows(self, select: str) -> Iterator[tuple[Any, ...]]:
        """Rows by `seq`, their first column, skipping pages that cannot be read."""
        after = -(2**62)
        while True:
            try:
                for row in self.connection.execute(
                    f"{select} WHERE seq > ? ORDER BY seq", (after,)
                ):
                    after = row[0]
                    yield row
            except DAMAGE:
                if self._strict:
                    raise
                found = self._next_readable(select, after)
                if found is None:
                    return
                after = found
            else:
                return

    def _next_readable(self, select: str, after: int) -> int | None:
        """The first position after `after` from which rows can be read; None: there is none.

        A damaged page hides consecutive numbers: positions inside it fail, those after it do not.
        """
        step = 1
        start = max(after, 0)
        while not self._readable(select, start + step):
            step *= 2
            if step > 2**48:
                return None
        low, high = start + step // 2, start + step
        while high - low > 1:
            middle = (low + high) // 2
            if self._readable(select, middle):
                high = middle
            else:
                low = middle
        return high

    def _readable(self, select: str, after: int) -> bool:
        try:
            self.connection.execute(
                f"{select} WHERE seq > ? ORDER BY seq LIMIT 1", (after,)
            ).fetchall()
        except DAMAGE:
            return False
        return True

    def _large(self, columns: str, seq: int) -> Any:
        """Columns that may be in overflow pages; None if they cannot be read."""
        try:
            return self.connection.execute(
                f"SELECT {columns} FROM messages WHERE seq=?", (seq,)
            ).get
        except DAMAGE:
            if self._strict:
                raise
            return None

    def _message(self, row: tuple[Any, ...]) -> ForeignMessage:
        raise NotImplementedError

    def _recipients(self, seq: int) -> list[ForeignRecipient]:
        raise NotImplementedError

    def _letters(self) -> Iterator[ForeignLetter]:
        raise NotImplementedError


class SchemaOne(_Sqlite):
    """queue.db: a lane of one upstream per recipient, and a body with its trace fields."""

    columns = (
        "seq, id, sender, recipients, namespace, name, uid, username, listener, received_at, size,"
        " flags, message_id, file"
    )

    def __init__(self, connection: apsw.Connection, *, now: float, strict: bool) -> None:
        """`now` says how long a recipient may have waited."""
        super().__init__(connection, strict=strict)
        self._now = now

    def _message(self, row: tuple[Any, ...]) -> ForeignMessage:
        (seq, queue_id, sender, recipients, namespace, name, uid, username, *rest) = row
        listener, received_at, size, flags, message_id, file = rest
        return ForeignMessage(
            queue_id=queue_id,
            sender=sender,
            identity=Identity(namespace=namespace, name=name, uid=uid, username=username),
            recipient_count=len(orjson.loads(recipients)),
            listener=listener,
            received_at=received_at,
            size=size,
            flags=flags,
            message_id=message_id,
            file=file,
            prelude=b"",
            body=None if file is not None else self._large("body", seq),
        )

    def _recipients(self, seq: int) -> list[ForeignRecipient]:
        return [
            ForeignRecipient(
                n=n,
                address=address,
                state=state,
                route=Route((upstream,), pinned=bool(pinned)),
                pinned=bool(pinned),
                attempts=attempts,
                waited=self._waited(attempts, first),
                first_tried_at=first,
                next_at=next_at,
                upstream=upstream,
                reason=reason,
                reply=reply,
            )
            for n, address, state, attempts, first, next_at, pinned, upstream, reason, reply in (
                self.connection.execute(
                    "SELECT n, address, state, attempts, first_tried_at, next_at, pinned, upstream,"
                    " reason, reply FROM recipients WHERE seq=? ORDER BY n",
                    (seq,),
                )
            )
        ]

    def _waited(self, attempts: int, first_tried_at: float | None) -> float:
        if first_tried_at is None:
            return 0.0
        return max(0.0, min(self._now - first_tried_at, attempts * FORMER_MAX_INTERVAL))

    def _letters(self) -> Iterator[ForeignLetter]:
        for row in self.connection.execute(
            "SELECT id, namespace, name, sender, received_at, size, message, recipient, address,"
            " upstream, reason, reply, attempts, failed_at FROM dead_letters ORDER BY n"
        ):
            yield _letter(row)


class SchemaTwo(_Sqlite):
    """A database as this version writes it."""

    columns = (
        "seq, id, sender, identity, recipient_count, listener, received_at, size, flags,"
        " message_id, place"
    )

    def _message(self, row: tuple[Any, ...]) -> ForeignMessage:
        (seq, queue_id, sender, identity, count, listener, at, size, flags, message_id, place) = row
        prelude, body = self._large("prelude, body", seq) or (None, None)
        if prelude is None:
            prelude, body = self._large("prelude", seq) or b"", None
        return ForeignMessage(
            queue_id=queue_id,
            sender=sender,
            identity=self._identity(identity),
            recipient_count=count,
            listener=listener,
            received_at=at,
            size=size,
            flags=flags,
            message_id=message_id,
            file=None if place is None else str(place).removeprefix(IN_FILE),
            prelude=prelude,
            body=body,
        )

    def _identity(self, number: int) -> Identity:
        """The sender; nobody if the table cannot be read, but the mail is sent."""
        try:
            namespace, name, uid, username = self.connection.execute(
                "SELECT i.namespace, i.name, s.uid, i.username FROM identities i"
                " JOIN senders s ON s.n = i.sender WHERE i.n=?",
                (number,),
            ).get
        except (*DAMAGE, TypeError):
            if self._strict:
                raise
            return Identity(namespace="", name="salvaged", uid="salvaged", username="salvaged")
        return Identity(namespace=namespace, name=name, uid=uid, username=username)

    def _route(self, number: int, upstream: str, pinned: bool) -> Route:
        """The route; if the table cannot be read, the upstream of the last attempt."""
        try:
            upstreams, destination = self.connection.execute(
                "SELECT upstreams, destination FROM routes WHERE n=?", (number,)
            ).get
        except (*DAMAGE, TypeError):
            if self._strict:
                raise
            return Route((upstream,) if upstream else (), pinned=pinned)
        return Route(tuple(orjson.loads(upstreams)), destination, pinned)

    def _recipients(self, seq: int) -> list[ForeignRecipient]:
        return [
            ForeignRecipient(
                n=n,
                address=address,
                state=state,
                route=self._route(route, upstream, bool(pinned)),
                pinned=bool(pinned),
                attempts=attempts,
                waited=waited,
                first_tried_at=first,
                next_at=next_at,
                upstream=upstream,
                reason=reason,
                reply=reply,
            )
            for (
                n,
                address,
                state,
                route,
                pinned,
                attempts,
                waited,
                first,
                next_at,
                upstream,
                reason,
                reply,
            ) in self.connection.execute(
                "SELECT n, address, state, route, pinned, attempts, waited, first_tried_at,"
                " next_at, upstream, reason, reply FROM recipients WHERE seq=? ORDER BY n",
                (seq,),
            )
        ]

    def _letters(self) -> Iterator[ForeignLetter]:
        for row in self.connection.execute(
            "SELECT m.id, m.namespace, m.name, m.sender, m.received_at, m.size, m.message,"
            " l.recipient, l.address, l.upstream, l.reason, l.reply, l.attempts, l.failed_at"
            " FROM dead_letters l JOIN dead_messages m ON m.n = l.message"
            " ORDER BY l.message, l.recipient"
        ):
            yield _letter(row)


def _letter(row: tuple[Any, ...]) -> ForeignLetter:
    (queue_id, namespace, name, sender, received_at, size, message, recipient, *rest) = row
    address, upstream, reason, reply, attempts, failed_at = rest
    return ForeignLetter(
        queue_id=queue_id,
        namespace=namespace,
        name=name,
        sender=sender,
        received_at=received_at,
        size=size,
        message=message,
        recipient=recipient,
        address=address,
        upstream=upstream,
        reason=reason,
        reply=reply,
        attempts=attempts,
        failed_at=failed_at,
    )


def open_for_reading(path: Path) -> apsw.Connection:
    """A database with its log; neither is changed."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    connection.set_busy_timeout(1000)
    connection.pragma("query_only", True)
    connection.pragma("temp_store", "memory")
    return connection
