"""Failed messages that are kept for inspection: one copy per message, bounded for each namespace.

Runs in the writer's thread, inside its transaction. They are not a second queue: the oldest is
removed first, and one tenant's never displace another's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import apsw

from mailrelay_gateway.message.body import Body, first_octets
from mailrelay_gateway.message.envelope import Message
from mailrelay_gateway.queue.disk.foreign import ForeignLetter
from mailrelay_gateway.queue.item import Move

#: How much of a message is kept: the header, and enough of the body to recognise it.
KEPT_OCTETS = 256 * 1024
#: For one namespace: weeks of a healthy sender's failures, or the first thousand of a broken
#: mailing, which all look alike.
NAMESPACE_MESSAGES = 1_000
NAMESPACE_OCTETS = 64 * 1024 * 1024
#: In total: ten such tenants. The octets are also at most a tenth of the volume: dead letters must
#: not be what fills it.
TOTAL_MESSAGES = 10_000
TOTAL_OCTETS = 1024 * 1024 * 1024
VOLUME_SHARE = 10
#: Octets of a recipient's row besides its texts, about.
_ROW = 64


class DeadLetters:
    """The dead letters of one database."""

    def __init__(
        self,
        connection: apsw.Connection,
        *,
        volume: int,
        namespace_messages: int = NAMESPACE_MESSAGES,
        namespace_octets: int = NAMESPACE_OCTETS,
        total_messages: int = TOTAL_MESSAGES,
        total_octets: int = TOTAL_OCTETS,
    ) -> None:
        """`volume` is the size of the volume in octets."""
        self._connection = connection
        self._namespace_messages = namespace_messages
        self._namespace_octets = namespace_octets
        self._total_messages = total_messages
        self._total_octets = min(total_octets, volume // VOLUME_SHARE)
        #: Messages and octets by namespace; None: not read yet.
        self._held: dict[str, tuple[int, int]] | None = None

    def forget(self) -> None:
        """Read the sums again when they are needed: a transaction was rolled back."""
        self._held = None

    def bury(self, message: Message, failed: Sequence[Move], *, upstream: str, now: float) -> None:
        """Keep a message whose recipients have failed."""
        self._keep(
            message.queue_id,
            message.identity.namespace,
            message.identity.name,
            message.envelope_sender,
            message.received_at,
            message.size,
            lambda: _kept(message),
            [
                (
                    move.recipient.index,
                    move.recipient.address,
                    upstream,
                    move.reason.value,
                    move.reply,
                    move.recipient.attempts,
                    now,
                )
                for move in failed
            ],
        )

    def keep(self, letter: ForeignLetter) -> None:
        """Keep a dead letter from another database."""
        self._keep(
            letter.queue_id,
            letter.namespace,
            letter.name,
            letter.sender,
            letter.received_at,
            letter.size,
            lambda: letter.message[:KEPT_OCTETS],
            [
                (
                    letter.recipient,
                    letter.address,
                    letter.upstream,
                    letter.reason,
                    letter.reply,
                    letter.attempts,
                    letter.failed_at,
                )
            ],
        )

    def _keep(
        self,
        queue_id: str,
        namespace: str,
        name: str,
        sender: str,
        received_at: float,
        size: int,
        copy: Callable[[], bytes],
        letters: Sequence[tuple[int, str, str, str, str, int, float]],
    ) -> None:
        connection = self._connection
        held = self._sums()
        messages, octets = held.get(namespace, (0, 0))
        added = sum(
            _ROW + len(address) + len(reply) + len(upstream)
            for _, address, upstream, _, reply, _, _ in letters
        )
        number = connection.execute(
            "UPDATE dead_messages SET octets = octets + ? WHERE id=? RETURNING n",
            (added, queue_id),
        ).get
        if number is None:
            kept = copy()
            added += len(kept)
            connection.execute(
                "INSERT INTO dead_messages (id, namespace, name, sender, received_at, size, octets,"
                " message) VALUES (?,?,?,?,?,?,?,?)",
                (
                    queue_id,
                    namespace,
                    name,
                    sender,
                    received_at,
                    size,
                    added,
                    kept,
                ),
            )
            number = connection.last_insert_rowid()
            messages += 1
        connection.executemany(
            "INSERT OR REPLACE INTO dead_letters VALUES (?,?,?,?,?,?,?,?)",
            [(number, *letter) for letter in letters],
        )
        held[namespace] = (messages, octets + added)
        self._bound(namespace)

    def _bound(self, namespace: str) -> None:
        held = self._sums()
        while (
            held[namespace][0] > self._namespace_messages
            or held[namespace][1] > self._namespace_octets
        ):
            self._drop_oldest(namespace)
        while (
            sum(messages for messages, _ in held.values()) > self._total_messages
            or sum(octets for _, octets in held.values()) > self._total_octets
        ):
            # the namespace with the most loses its oldest
            self._drop_oldest(max(held, key=lambda name: held[name][1]))

    def _drop_oldest(self, namespace: str) -> None:
        held = self._sums()
        found = self._connection.execute(
            "SELECT n, octets FROM dead_messages WHERE namespace=? ORDER BY n LIMIT 1",
            (namespace,),
        ).get
        if found is None:  # the sums were wrong: nothing is left to remove
            held[namespace] = (0, 0)
            return
        number, octets = found
        self._connection.execute("DELETE FROM dead_letters WHERE message=?", (number,))
        self._connection.execute("DELETE FROM dead_messages WHERE n=?", (number,))
        messages, before = held[namespace]
        held[namespace] = (messages - 1, before - octets)

    def _sums(self) -> dict[str, tuple[int, int]]:
        if self._held is None:
            self._held = {
                str(namespace): (int(messages), int(octets))
                for namespace, messages, octets in self._connection.execute(
                    "SELECT namespace, count(*), sum(octets) FROM dead_messages GROUP BY namespace"
                )
            }
        return self._held


def _kept(message: Message) -> bytes:
    """The beginning of a message."""
    start = message.prelude[:KEPT_OCTETS]
    return start + _beginning(message.body, KEPT_OCTETS - len(start))


def _beginning(body: Body, octets: int) -> bytes:
    try:
        return first_octets(body, octets) if octets else b""
    except OSError:  # neither damage to one file nor a lack of descriptors may stop the queue
        return b""
