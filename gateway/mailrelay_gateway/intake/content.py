"""One message's octets between the client and the queue: in memory up to a limit, then in a file,
never unbounded.

Only about holding them. smtp/server/data_reader.py knows where a message ends, the policy (through
`begin`) whether it is accepted, and the queue what happens to it then.
"""

from __future__ import annotations

from collections.abc import Callable

from mailrelay_gateway.file_body import FileBody
from mailrelay_gateway.intake.body_file import BodyFile
from mailrelay_gateway.intake.budget import InFlightBudget, too_much_in_flight
from mailrelay_gateway.intake.ledger import Account
from mailrelay_gateway.message.body import INLINE_BODY_LIMIT, Body
from mailrelay_gateway.message.trace import MAX_TRACE
from mailrelay_gateway.policy.chain import too_big
from mailrelay_gateway.reasons import Reason
from mailrelay_gateway.smtp.refusal import Problem, refuse

#: Octets above which a message becomes a file; the fields that we add still fit.
SPILL_ABOVE = INLINE_BODY_LIMIT - MAX_TRACE

#: Pieces of a message in memory: an octet in its own piece would take forty.
MAX_PARTS = 64

#: What is added in front of a message, and its first octets (its whole header, if that is of legal
#: size) as they are to be stored, given those received; or why it is refused.
Begin = Callable[[bytes], tuple[bytes, bytes] | Problem]
#: What is added in front of the message, and the message; or why it is refused.
Finished = Callable[[bytes, Body | None, Problem | None], None]


class Content:
    """A message being received. After a problem it only counts further octets."""

    __slots__ = (
        "_account",
        "_begin",
        "_budget",
        "_file",
        "_grown",
        "_held",
        "_max_size",
        "_open_file",
        "_parts",
        "_prelude",
        "octets",
        "problem",
    )

    def __init__(
        self,
        *,
        max_size: int,
        budget: InFlightBudget,
        account: Account,
        begin: Begin,
        open_file: Callable[[Callable[[int], None]], BodyFile],
    ) -> None:
        """Hold at most `max_size` octets; `open_file(on_progress)` is called at most once, for a
        large message.
        """
        self.octets = 0  # received, refused ones included
        self.problem: Problem | None = None
        self._max_size = max_size
        self._budget = budget
        self._account = account
        self._begin = begin
        self._open_file = open_file
        self._parts: list[bytes] = []
        self._held = 0  # octets of the budget that are ours now
        self._file: BodyFile | None = None
        self._grown = 0  # octets by which `begin` changed the message
        self._prelude = b""

    @property
    def crowded(self) -> bool:
        """Whether the client should wait until the disk has caught up."""
        return self._file is not None and self._file.crowded

    @property
    def spilled(self) -> bool:
        """Whether the header was processed and the rest is body, since it goes to a file."""
        return self._file is not None

    def add(self, part: bytes) -> None:
        """Take the next octets."""
        size = len(part)
        self.octets += size
        if self.problem is not None:
            return
        if self.octets > self._max_size:
            self.refuse(too_big(self._max_size))
        elif not self._budget.take(size, self._account):
            self.refuse(too_much_in_flight())
        else:
            self._held += size
            if self._file is not None:
                self._file.write(part)
                if self._file.error is not None:
                    self.refuse(_file_problem(self._file.error))
            else:
                self._parts.append(part)
                if len(self._parts) > MAX_PARTS:
                    self._parts = [b"".join(self._parts)]
                if self.octets > SPILL_ABOVE:
                    self._spill()

    def refuse(self, problem: Problem) -> None:
        """Give up the message: everything held is released. The first problem is kept."""
        if self.problem is None:
            self.problem = problem
        self.drop()

    def drop(self) -> None:
        """Release everything held, a file included: the message is not stored."""
        if self._file is not None:
            self._file.drop()  # which reports no progress any more
            self._file = None
        self.release()

    def release(self) -> None:
        """Release what is in memory: the message is stored, or refused."""
        self._parts.clear()
        self._budget.give_back(self._held, self._account)
        self._held = 0

    def finish(self, then: Finished) -> None:
        """Everything has arrived: call `then(prelude, body, problem)`, at once or when the file is
        durable.
        """
        if self.problem is None and self._file is None:
            content = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
            begun = self._begin(content)
            if isinstance(begun, Problem):
                self.refuse(begun)
            else:
                then(*begun, None)
                return
        if self._file is None:
            then(b"", None, self.problem)
            return
        file = self._file
        size = self._grown + self.octets

        def written(error: OSError | None) -> None:
            if error is None:
                then(self._prelude, FileBody(file.path, size), None)
            else:
                self.refuse(_file_problem(error))
                then(b"", None, self.problem)

        file.finish(written)

    def _spill(self) -> None:
        """Move from memory to a file."""
        content = b"".join(self._parts)
        begun = self._begin(content)
        if isinstance(begun, Problem):
            self.refuse(begun)
            return
        self._prelude, body = begun
        self._grown = len(body) - len(content)
        if self._grown > 0 and not self._budget.take(self._grown, self._account):
            self.refuse(too_much_in_flight())
            return
        self._held += max(0, self._grown)
        self._parts = []
        self._file = self._open_file(self._written)
        self._file.write(body)

    def _written(self, octets: int) -> None:
        """The file has `octets` more: they are no longer in memory."""
        self._held -= octets
        self._budget.give_back(octets, self._account)


def _file_problem(error: OSError) -> Problem:
    return refuse(Reason.SPOOL_FAILED, detail=str(error))
