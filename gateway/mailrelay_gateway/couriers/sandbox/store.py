"""Captured mail on disk: the newest messages of each sandbox upstream, in a SQLite file next to the
queue.

Captured means delivered: the queue removes a message once it is committed here. All methods block;
the sandbox calls them in its own thread.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Sequence
from email import policy
from email.parser import BytesHeaderParser, BytesParser
from pathlib import Path
from typing import Any

import apsw

from mailrelay_gateway.contract.moments import rfc3339
from mailrelay_gateway.message.body import whole
from mailrelay_gateway.message.envelope import Attempt

#: Maximum octets of captured mail, whatever `keep` is: a sandbox is not an archive.
MAX_OCTETS = 512 * 1024 * 1024
#: Octets shown of a text part.
MAX_TEXT = 256 * 1024


class UnreadableBody(Exception):
    """The body of attempt `number`'s message cannot be read; nothing was captured."""

    def __init__(self, number: int, detail: str) -> None:
        super().__init__(detail)
        self.number = number


class SandboxStore:
    """The captured messages of one gateway."""

    def __init__(self, path: Path) -> None:
        """Open or make the file."""
        self._connection = apsw.Connection(str(path))
        self._connection.set_busy_timeout(10_000)
        try:
            self._connection.pragma("journal_mode", "wal")
        except (apsw.NotADBError, apsw.CorruptError):  # must not stop delivery
            self._connection.close()
            path.rename(path.with_suffix(".damaged"))
            self._connection = apsw.Connection(str(path))
            self._connection.set_busy_timeout(10_000)
            self._connection.pragma("journal_mode", "wal")
        self._connection.pragma("synchronous", "full")
        self._connection.execute(
            "CREATE TABLE IF NOT EXISTS captured (id INTEGER PRIMARY KEY AUTOINCREMENT,"
            " upstream TEXT NOT NULL, queue_id TEXT NOT NULL, sender TEXT NOT NULL,"
            " recipients TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL,"
            " received_at REAL NOT NULL, size INTEGER NOT NULL, subject TEXT NOT NULL,"
            " body BLOB NOT NULL)"
        )

    def capture(self, attempts: Sequence[Attempt], keep: int) -> None:
        """Store the messages of the attempts in one transaction, and delete all but the newest
        `keep` of the upstream.
        """
        with self._connection:
            for attempt in attempts:
                message = attempt.message
                try:
                    body = message.prelude + whole(message.body)
                except OSError as error:
                    raise UnreadableBody(attempt.number, str(error)) from None
                if len(body) != message.size:
                    detail = f"{len(body)} octets, and the message has {message.size}"
                    raise UnreadableBody(attempt.number, detail)
                self._connection.execute(
                    "INSERT INTO captured (upstream, queue_id, sender, recipients, namespace, name,"
                    " received_at, size, subject, body) VALUES (?,?,?,?,?,?,?,?,?,?)",
                    (
                        attempt.upstream,
                        message.queue_id,
                        message.envelope_sender,
                        json.dumps([r.address for r in attempt.recipients]),
                        message.identity.namespace,
                        message.identity.name,
                        message.received_at,
                        len(body),
                        subject_of(body),
                        body,
                    ),
                )
            for upstream in {attempt.upstream for attempt in attempts}:
                self._connection.execute(
                    "DELETE FROM captured WHERE upstream=?1 AND id NOT IN"
                    " (SELECT id FROM captured WHERE upstream=?1 ORDER BY id DESC LIMIT ?2)",
                    (upstream, keep),
                )
            self._connection.execute(
                "DELETE FROM captured WHERE id <= (SELECT coalesce(max(id), 0) FROM (SELECT id,"
                " sum(size) OVER (ORDER BY id DESC) AS octets FROM captured) WHERE octets > ?)",
                (MAX_OCTETS,),
            )

    def newest(self, limit: int) -> list[dict[str, Any]]:
        """The newest messages, without their bodies."""
        return [
            _summary(row)
            for row in self._connection.execute(
                f"SELECT {_COLUMNS} FROM captured ORDER BY id DESC LIMIT ?",  # noqa: S608
                (limit,),
            )
        ]

    def one(self, number: int) -> dict[str, Any] | None:
        """One message with its header fields and its text."""
        row = self._connection.execute(
            f"SELECT {_COLUMNS}, body FROM captured WHERE id=?",  # noqa: S608
            (number,),
        ).fetchone()
        if row is None:
            return None
        *columns, body = row
        return _summary(columns) | {"headers": _headers(body), "text": _text(body)}

    def raw(self, number: int) -> bytes | None:
        """One message's octets."""
        row = self._connection.execute("SELECT body FROM captured WHERE id=?", (number,)).fetchone()
        return None if row is None else row[0]

    def clear(self) -> int:
        """Delete all messages; returns their number."""
        self._connection.execute("DELETE FROM captured")
        return self._connection.changes()

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


_COLUMNS = "id, upstream, queue_id, sender, recipients, namespace, name, received_at, size, subject"


def _summary(row: Sequence[Any]) -> dict[str, Any]:
    number, upstream, queue_id, sender, recipients, namespace, name, received_at, size, subject = (
        row
    )
    return {
        "id": number,
        "upstream": upstream,
        "queue_id": queue_id,
        "from": sender,
        "to": json.loads(recipients),
        "namespace": namespace,
        "sender": name,
        "received_at": rfc3339(received_at),
        "size": size,
        "subject": subject,
    }


def subject_of(body: bytes) -> str:
    """The decoded Subject, at most 998 characters; "" if it is missing or invalid."""
    header = body.partition(b"\r\n\r\n")[0][: 64 * 1024]
    if not re.search(rb"(?mi)^subject:", header):
        return ""
    try:
        message = BytesHeaderParser(policy=policy.default).parsebytes(header + b"\r\n\r\n")
        return str(message["subject"] or "")[:998]
    except Exception:  # the standard library's parser fails on some real-world input
        return ""


def _headers(body: bytes) -> list[tuple[str, str]]:
    header = body.partition(b"\r\n\r\n")[0][: 64 * 1024].decode("utf-8", "replace")
    unfolded = re.sub(r"\r\n[ \t]+", " ", header)
    return [
        (name, value.strip())
        for name, colon, value in (line.partition(":") for line in unfolded.split("\r\n"))
        if colon
    ]


def _text(body: bytes) -> str:
    """The text to show: the plain text part, otherwise the HTML part's source, otherwise the raw
    body.
    """
    part = None
    with contextlib.suppress(Exception):  # as above: unparsable text is shown unchanged
        part = BytesParser(policy=policy.default).parsebytes(body).get_body(("plain", "html"))
        return str(part.get_content() if part is not None else "")[:MAX_TEXT]
    return body.partition(b"\r\n\r\n")[2][:MAX_TEXT].decode("utf-8", "replace")
