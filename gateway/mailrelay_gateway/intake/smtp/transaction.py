"""One mail transaction: the envelope as it is built, the content as it comes, and its way into the
queue.

From the final dot on it needs neither session nor connection: the commit goes on whatever the
client does, and the message is stored whole or not at all.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import structlog

from mailrelay_gateway.intake.body_file import BodyFile
from mailrelay_gateway.intake.commons import Commons
from mailrelay_gateway.intake.content import Content
from mailrelay_gateway.intake.ledger import Account
from mailrelay_gateway.intake.settings import ListenerSettings
from mailrelay_gateway.message import trace
from mailrelay_gateway.message.body import Body
from mailrelay_gateway.message.envelope import ANONYMOUS, Identity, Message
from mailrelay_gateway.message.headers import Header, read_header
from mailrelay_gateway.message.submission import mend
from mailrelay_gateway.policy.chain import (
    CONTENT_CHAIN,
    ContentFacts,
    claims_to_be_another,
    decide,
    too_many_recipients,
)
from mailrelay_gateway.policy.senders import SenderEntry
from mailrelay_gateway.reasons import Reason
from mailrelay_gateway.smtp.refusal import Problem, internal_error, refuse
from mailrelay_gateway.smtp.server.data_reader import (
    MAX_TEXT_LINE,
    ChunkReader,
    DataReader,
    has_long_line,
)

if TYPE_CHECKING:
    from mailrelay_gateway.intake.smtp.session import Session

log = structlog.get_logger()

#: Whose account is not known yet: nothing is taken for it.
_NOBODY = Account()

#: The queue id, and None or why the message is refused.
Stored = Callable[[str, Problem | None], None]


class Transaction:
    """From MAIL to the outcome."""

    __slots__ = (
        "_account",
        "_commons",
        "_complete",
        "_content",
        "_done",
        "_header",
        "_known",
        "_message_id",
        "_reader",
        "_session",
        "chunk_size",
        "doubles",
        "entry",
        "identity",
        "last_chunk",
        "queue_id",
        "recipients",
        "sender",
        "settings",
        "surplus",
        "told",
    )

    def __init__(
        self, sender: str, settings: ListenerSettings, entry: SenderEntry | None, commons: Commons
    ) -> None:
        """Begin with the reverse-path; `entry` is who sends (None: an anonymous listener)."""
        self.sender = sender
        self.recipients: list[str] = []
        self.surplus = 0  # recipients refused for their number
        self.doubles = 0  # recipients that were there already
        self.told = False  # refused because a chunk before was
        self._known: set[str] | None = None  # keys of the recipients, once there is a second one
        self.settings = settings
        self.identity: Identity = ANONYMOUS if entry is None else entry.identity
        self.queue_id = ""
        self.chunk_size = 0
        self.last_chunk = False
        self.entry = entry
        self._commons = commons
        self._account = _NOBODY
        self._session: Session | None = None
        self._reader: DataReader | ChunkReader | None = None
        self._content: Content | None = None
        self._header: Header | None = None
        self._message_id = ""
        self._complete = False
        self._done: Stored | None = None

    @classmethod
    def refused(
        cls, problem: Problem, *, settings: ListenerSettings, commons: Commons, told: bool
    ) -> Transaction:
        """One that only takes and drops the octets of a chunk that came although it was not
        welcome; `told`: as the chunk before it.
        """
        transaction = cls("", settings, None, commons)
        transaction.told = told
        transaction._reader = ChunkReader()
        transaction._content = transaction._new_content()
        transaction._content.refuse(problem)
        return transaction

    # --- the envelope

    def has(self, recipient: str) -> bool:
        """Whether that recipient is there already: whoever is named twice gets one copy. Domains
        are the same in any case, local parts are not (RFC 5321 section 2.4).
        """
        if self._known is None:
            self._known = {_key(each) for each in self.recipients}
        return _key(recipient) in self._known

    def add(self, recipient: str) -> None:
        """One more recipient."""
        self.recipients.append(recipient)
        if self._known is not None:
            self._known.add(_key(recipient))

    # --- the content

    def begin(self, session: Session, reader: DataReader | ChunkReader) -> Problem | None:
        """The content is about to come: charge the limits, or say why it may not."""
        commons = self._commons
        key = session.client if self.entry is None else self.identity.uid
        self._account = account = commons.ledger.of(key)
        problem = commons.problem(account)
        if problem is None and session.listener.settings is not self.settings:
            problem = session.still_welcome(self)
        if problem is not None:
            return problem
        if self.surplus and not self.settings.defers_surplus:
            return too_many_recipients(self.surplus, self.settings.max_recipients)
        limited = commons.limits.charge(
            self.identity, recipients=len(self.recipients), now=commons.loop.time()
        )
        if limited is not None:
            commons.metrics.limited(limited.scope, self.identity.namespace).inc()
            return limited.problem
        self.queue_id = commons.intake.new_id()
        self._session = session
        self._reader = reader
        self._content = self._new_content()
        return None

    def start_chunk(self, size: int, *, last: bool) -> None:
        """A chunk of BDAT follows."""
        assert isinstance(self._reader, ChunkReader)
        self.chunk_size, self.last_chunk = size, last
        self._reader.start(size)

    def feed(self, octets: bytes, position: int) -> int:
        """Take content from `position`; where it (or the chunk) ended, or -1 if it goes on."""
        reader, content = self._reader, self._content
        assert reader is not None  # begin made both
        assert content is not None
        part, after = reader.feed(octets, position)
        if part:
            content.add(part)
            if (reader.bare_newline or reader.nul or reader.long_line) and content.problem is None:
                self._judge(reader, content)
        return after

    @property
    def chunked(self) -> bool:
        """Whether the content comes with BDAT."""
        return isinstance(self._reader, ChunkReader)

    @property
    def octets(self) -> int:
        """How much content has come."""
        return self._content.octets if self._content is not None else 0

    @property
    def problem(self) -> Problem | None:
        """Why the message is refused, as far as it is known while it comes."""
        return self._content.problem if self._content is not None else None

    @property
    def overrun(self) -> bool:
        """Whether a refused message goes on for so long that its end is not worth waiting for."""
        content = self._content
        return content is not None and content.problem is not None and self.is_too_far(0)

    def is_too_far(self, more: int) -> bool:
        """Whether `more` octets would lead so far beyond what a message may have that their end is
        not worth waiting for. Up to there they are taken and dropped: many clients read no reply
        before they have sent everything.
        """
        return self.octets + more > self.settings.max_size + self._commons.caps.drain

    @property
    def crowded(self) -> bool:
        """Whether the disk is slower than the client."""
        return self._content is not None and self._content.crowded

    def drop(self) -> None:
        """Forget it, unless it is complete: then it belongs to the commit."""
        if self._content is not None and not self._complete:
            self._content.drop()

    # --- the end

    def finish(self, done: Stored) -> None:
        """The content is complete: hand it to the queue; `done` is called once, at once
        or later.
        """
        reader, content = self._reader, self._content
        assert reader is not None  # begin made both
        assert content is not None
        self._complete = True
        self._done = done
        if isinstance(reader, ChunkReader):
            rest = reader.finish()
            if rest:
                content.add(rest)
            if (reader.bare_newline or reader.long_line) and content.problem is None:
                self._judge(reader, content)
        content.finish(self._held)

    def _judge(self, reader: DataReader | ChunkReader, content: Content) -> None:
        """Refuse what the reader noticed. A long line may stand in the header, which is mended; it
        is looked at when the header is.
        """
        if reader.bare_newline or reader.nul or content.spilled:
            content.refuse(_malformed(reader))

    def _held(self, prelude: bytes, body: Body | None, problem: Problem | None) -> None:
        """The content is whole, in memory or in a durable file: let the queue store it. An error of
        ours is an answer too: whoever waits is never forgotten.
        """
        try:
            if body is None:
                self._finished("", problem)
            else:
                self._hand_over(prelude, body)
        except Exception as error:
            log.error("internal_error", listener=self.settings.name, exc_info=error)
            if self._content is not None:
                self._content.drop()
            self._finished("", internal_error())

    def _finished(self, queue_id: str, problem: Problem | None) -> None:
        """Tell the outcome, once."""
        done, self._done = self._done, None
        if done is not None:
            done(queue_id, problem)

    def _hand_over(self, prelude: bytes, body: Body) -> None:
        reader, session, content = self._reader, self._session, self._content
        assert reader is not None  # begin set all three
        assert session is not None
        assert content is not None
        # The configuration may have changed since MAIL: ask again, before anything is promised.
        entry = self.entry
        if session.listener.settings is not self.settings:
            problem = session.still_welcome(self)
            if problem is None and self.entry is not entry:
                assert self._header is not None  # it was read when the content began
                facts = ContentFacts(header=self._header, sender=self.entry)
                problem = decide(CONTENT_CHAIN, facts)
            if problem is not None:
                content.refuse(problem)
                self._finished("", problem)
                return
        message = Message(
            queue_id=self.queue_id,
            sender=self.sender,
            recipient_count=len(self.recipients),
            identity=self.identity,
            listener=self.settings.name,
            received_at=time.time(),
            size=len(prelude) + (len(body) if isinstance(body, bytes) else body.size),
            prelude=prelude,
            body=body,
            eight_bit=reader.eight_bit,
            message_id=self._message_id,
        )
        self._commons.intake.accept(
            message, self.recipients, lambda problem: self._committed(message, problem)
        )

    def _committed(self, message: Message, problem: Problem | None) -> None:
        """From the queue: stored, or not. Raises nothing into it."""
        content, session = self._content, self._session
        assert content is not None  # until here
        assert session is not None
        # What refers to each other would wait for the garbage collector, and there is one for each
        # message.
        self._content = self._session = None
        if problem is not None:
            if problem.reason is Reason.SPOOL_FAILED:
                content.release()  # the disk may hold it all the same: the next start decides
            else:
                content.drop()
            self._finished("", problem)
            return
        try:
            content.release()
            self._tell_accepted(message, session)
        except Exception as error:  # it is stored all the same, and answered so
            log.error("internal_error", listener=message.listener, exc_info=error)
        self._finished(message.queue_id, None)

    def _tell_accepted(self, message: Message, session: Session) -> None:
        metrics, identity, listener = self._commons.metrics, message.identity, message.listener
        metrics.received_messages(listener, identity.namespace).inc()
        metrics.received_bytes(listener, identity.namespace).inc(message.size)
        log.info(
            "accepted",
            queue_id=message.queue_id,
            sender=str(identity),
            envelope_sender=message.sender,
            recipients=self.recipients,
            recipient_count=message.recipient_count,
            client=session.client,
            tls=session.tls,
            size=message.size,
            message_id=message.message_id,
            listener=listener,
        )

    # --- what goes in front

    def _begin(self, octets: bytes) -> tuple[bytes, bytes] | Problem:
        """The trace headers for a message that begins with `octets` (its whole header, if of legal
        size), and those octets with the header mended.
        """
        session, reader, entry = self._session, self._reader, self.entry
        assert session is not None  # begin set both
        assert reader is not None
        header = self._header = read_header(octets)
        problem = decide(CONTENT_CHAIN, ContentFacts(header=header, sender=entry))
        if problem is not None:
            return problem
        if reader.long_line and has_long_line(octets, header.end):
            return _malformed(reader)
        claims = bool(header.senders) and claims_to_be_another(header, entry)
        if header.mend or claims or reader.long_line:
            mended = mend(octets, header, without_sender=claims)
            if isinstance(mended, str):
                return refuse(Reason.MALFORMED_MESSAGE, 550, "5.6.0", mended)
            octets = mended
            reader.long_line = False  # the next one stands in the body
        at = int(time.time())
        hostname = self.settings.hostname
        prelude = trace.received(
            helo=session.helo,
            client=trace.client_literal(session.client),
            hostname=hostname,
            protocol=session.protocol,
            queue_id=self.queue_id,
            recipients=tuple(self.recipients),
            at=at,
        )
        self._message_id = header.message_id
        # Every listener takes submissions (RFC 6409 section 8), with a login or without.
        if not header.has_date:
            prelude += trace.date(at)
        if not header.message_id:
            self._message_id = trace.message_id(self.queue_id, hostname)
            prelude += f"Message-ID: {self._message_id}\r\n".encode("ascii", "replace")
        return prelude, octets

    def _new_content(self) -> Content:
        return Content(
            max_size=self.settings.max_size,
            budget=self._commons.budget,
            account=self._account,
            begin=self._begin,
            open_file=self._open_file,
        )

    def _open_file(self, on_progress: Callable[[int], None]) -> BodyFile:
        session, commons = self._session, self._commons
        assert session is not None  # begin set it

        def progressed(octets: int) -> None:
            on_progress(octets)
            session.guard(session.adjust_reading)

        return BodyFile(
            commons.intake.body_path(self.queue_id),
            loop=commons.loop,
            pool=commons.disk,
            on_progress=progressed,
        )


def _key(recipient: str) -> str:
    at = recipient.rfind("@")
    return recipient[:at] + recipient[at:].lower()


def _malformed(reader: DataReader | ChunkReader) -> Problem:
    if reader.bare_newline:
        return refuse(
            Reason.BARE_NEWLINE,
            550,
            "5.6.0",
            "A line ends in a bare CR or LF: end every line with CR LF",
        )
    if reader.nul:
        sentence = "A NUL octet stands in the message"
    else:
        sentence = (
            f"A line of the body has more than {MAX_TEXT_LINE} octets (RFC 5322 section 2.1.1):"
            " encode it as quoted-printable or base64"
        )
    return refuse(Reason.MALFORMED_MESSAGE, 550, "5.6.0", sentence)
