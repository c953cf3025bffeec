"""One SMTP mail transaction: the envelope from MAIL and RCPT, and the content from DATA or BDAT.
incoming.py decides the result.
"""

from __future__ import annotations

from collections.abc import Callable

from mailrelay_gateway.intake.authentication import Login
from mailrelay_gateway.intake.commons import Commons
from mailrelay_gateway.intake.incoming import Incoming, Reader, Stored
from mailrelay_gateway.intake.judges import Origin
from mailrelay_gateway.intake.smtp.settings import SmtpListener, SmtpSettings
from mailrelay_gateway.message.envelope import Envelope
from mailrelay_gateway.policy.senders import SenderEntry
from mailrelay_gateway.smtp.dsn import NONE, DsnParameters, RecipientDsn
from mailrelay_gateway.smtp.refusal import Problem
from mailrelay_gateway.smtp.server.data_reader import ChunkReader


class Transaction:
    """From MAIL to the outcome."""

    __slots__ = (
        "_drain",
        "_dropped",
        "_dsn",
        "_incoming",
        "_known",
        "_reader",
        "_refusal",
        "_wishes",
        "chunk_size",
        "doubles",
        "entry",
        "last_chunk",
        "recipients",
        "sender",
        "settings",
        "smtputf8",
        "surplus",
        "told",
    )

    def __init__(
        self,
        sender: str,
        settings: SmtpSettings,
        entry: SenderEntry | None,
        *,
        drain: int,
        smtputf8: bool = False,
    ) -> None:
        """Begin with the reverse-path; `entry` is the sender (None: an anonymous listener).
        `drain`: see Caps.
        """
        self.sender = sender
        self.smtputf8 = smtputf8
        self.recipients: list[str] = []
        self.surplus = 0  # recipients refused because there were too many
        self.doubles = 0  # recipients given twice
        self.told = False  # refused because an earlier chunk was
        self.settings = settings
        self.chunk_size = 0
        self.last_chunk = False
        self._dsn: tuple[str, str] | None = None  # RET and ENVID
        self._wishes: dict[int, RecipientDsn] | None = None  # by index of the recipient
        self._known: set[str] | None = None  # keys of the recipients, once there is a second one
        self._drain = drain
        self.entry = entry
        self._incoming: Incoming | None = None
        self._reader: Reader | None = None
        self._refusal: Problem | None = None  # of what is dropped on arrival
        self._dropped = 0  # octets of it

    @classmethod
    def refused(
        cls, problem: Problem, *, settings: SmtpSettings, drain: int, told: bool
    ) -> Transaction:
        """One that only reads and drops the octets of a refused chunk; `told`: like the chunk
        before it.
        """
        transaction = cls("", settings, None, drain=drain)
        transaction.told = told
        transaction._reader = ChunkReader()
        transaction._refusal = problem
        return transaction

    # --- the envelope

    def has(self, recipient: str) -> bool:
        """Whether that recipient was already given: duplicates get one copy. Domains are
        case-insensitive, local parts are not (RFC 5321 section 2.4).
        """
        if self._known is None:
            self._known = {_key(each) for each in self.recipients}
        return _key(recipient) in self._known

    def ask(self, ret: str, envid: str) -> None:
        """MAIL had DSN parameters."""
        self._dsn = (ret, envid)

    def add(self, recipient: str, dsn: RecipientDsn | None = None) -> None:
        """One more recipient, with the DSN parameters of RCPT."""
        if dsn is not None:
            self._wishes = self._wishes or {}
            self._wishes[len(self.recipients)] = dsn
        self.recipients.append(recipient)
        if self._known is not None:
            self._known.add(_key(recipient))

    def _parameters(self) -> DsnParameters | None:
        if self._dsn is None and self._wishes is None:
            return None
        wishes = self._wishes or {}
        recipients = tuple([wishes.get(n, NONE) for n in range(len(self.recipients))])
        return DsnParameters(*(self._dsn or ("", "")), recipients)

    # --- the content

    def begin(
        self,
        reader: Reader,
        *,
        listener: SmtpListener,
        origin: Origin,
        login: Login | None,
        commons: Commons,
        progressed: Callable[[], None],
    ) -> Problem | None:
        """The content is about to come, or why it may not. See Incoming."""
        self._reader = reader
        incoming = Incoming(
            Envelope(
                envelope_sender=self.sender,
                recipients=self.recipients,
                smtputf8=self.smtputf8,
                dsn=self._parameters(),
            ),
            reader,
            listener=listener,
            settings=self.settings,
            origin=origin,
            login=login,
            entry=self.entry,
            commons=commons,
            progressed=progressed,
        )
        problem = incoming.begin(self.surplus)
        if problem is None:
            self._incoming = incoming
        return problem

    def start_chunk(self, size: int, *, last: bool) -> None:
        """A chunk of BDAT follows."""
        assert isinstance(self._reader, ChunkReader)
        self.chunk_size, self.last_chunk = size, last
        self._reader.start(size)

    def feed(self, octets: bytes, position: int) -> int:
        """Take content from `position`; where it (or the chunk) ended, or -1 if it goes on."""
        assert self._reader is not None  # begin or refused created it
        part, after = self._reader.feed(octets, position)
        if part:
            if self._incoming is not None:
                self._incoming.take(part)
            else:
                self._dropped += len(part)
        return after

    @property
    def chunked(self) -> bool:
        """Whether the content comes with BDAT."""
        return isinstance(self._reader, ChunkReader)

    @property
    def octets(self) -> int:
        """How much content has come."""
        return self._dropped if self._incoming is None else self._incoming.octets

    @property
    def problem(self) -> Problem | None:
        """Why the message is refused, as far as that is known while it is received."""
        return self._refusal if self._incoming is None else self._incoming.problem

    @property
    def overrun(self) -> bool:
        """Whether a refused message is so long that its end is not worth waiting for."""
        return self.problem is not None and self.is_too_far(0)

    def is_too_far(self, more: int) -> bool:
        """Whether `more` octets would exceed the permitted size by so much that the end is not
        worth waiting for. Up to there they are read and dropped: many clients read no reply before
        they have sent everything.
        """
        return self.octets + more > self.settings.max_size + self._drain

    @property
    def crowded(self) -> bool:
        """Whether the disk is slower than the client."""
        return self._incoming is not None and self._incoming.crowded

    def drop(self) -> None:
        """Drop it, unless it is complete: then it belongs to the commit."""
        if self._incoming is not None:
            self._incoming.drop()

    def finish(self, done: Stored) -> None:
        """The content is complete: pass it to the queue; `done` is called once, at once or
        later.
        """
        reader, incoming = self._reader, self._incoming
        assert incoming is not None  # begin created it
        if isinstance(reader, ChunkReader):
            rest = reader.finish()
            if rest:
                incoming.take(rest)
        incoming.finish(done)


def _key(recipient: str) -> str:
    at = recipient.rfind("@")
    return recipient[:at] + recipient[at:].lower()
