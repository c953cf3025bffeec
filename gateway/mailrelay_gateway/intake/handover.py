"""What intake needs of the queue: a place to store messages, as a Protocol; `process` connects the
two.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from mailrelay_gateway.message.envelope import Message
from mailrelay_gateway.smtp.refusal import Problem


class Intake(Protocol):
    """Accepts messages and stores them durably."""

    def problem(self, octets: int = 0) -> Problem | None:
        """Why a message of so many octets (0: not known yet) cannot be accepted now, such as
        452 4.3.1 below the low-water mark; else None.
        """

    def new_id(self) -> str:
        """A queue id: 26 characters, unique across replicas."""

    def body_path(self, queue_id: str) -> Path:
        """Where intake writes the body of a message above INLINE_BODY_LIMIT."""

    def accept(
        self, message: Message, addresses: Sequence[str], done: Callable[[Problem | None], None]
    ) -> None:
        """Store the message for these recipients; never raises.

        `done` is called exactly once, in the event loop, even if the session has ended: with None
        once the message is committed with fsync, otherwise with the problem to answer. A body that
        is a file belongs to the queue from then on, unless there was a problem.
        """
