"""One message on its way in, whatever brings it: its envelope, whose it is and where it comes from,
then its octets, then what became of it: stored, or refused.

Every way in asks, in this order: `judge_sender`, `judge_recipient` for each recipient, then
`Incoming.begin` (room, limits), `take` for the octets, `finish`. None knows more than what it hands
over. From the last octet on nobody is needed: the commit goes on whatever the client does, and the
message is stored whole or not at all.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog

from mailrelay_gateway.intake.authentication import Login
from mailrelay_gateway.intake.body_file import BodyFile
from mailrelay_gateway.intake.commons import Commons
from mailrelay_gateway.intake.content import SPILL_ABOVE, Content
from mailrelay_gateway.intake.judges import AnyListener, Origin, judge_sender
from mailrelay_gateway.intake.ledger import Account
from mailrelay_gateway.intake.settings import ListenerSettings
from mailrelay_gateway.message import trace
from mailrelay_gateway.message.body import Body
from mailrelay_gateway.message.envelope import ANONYMOUS, Envelope, Identity, Message
from mailrelay_gateway.message.headers import Header, is_signed, read_header
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
from mailrelay_gateway.smtp.refusal import Problem, refuse
from mailrelay_gateway.smtp.server.data_reader import (
    MAX_TEXT_LINE,
    ChunkReader,
    DataReader,
    has_long_line,
)

log = structlog.get_logger()

#: The sender is not known yet: no account is charged.
_NOBODY = Account()

#: The reader, which parses the octets and detects what is not allowed in them.
Reader = DataReader | ChunkReader
#: The queue id, and None or why the message is refused.
Stored = Callable[[str, Problem | None], None]


class Incoming:
    """A message with a complete envelope, until it is stored or refused."""

    __slots__ = (
        "_account",
        "_commons",
        "_complete",
        "_content",
        "_done",
        "_entry",
        "_envelope",
        "_header",
        "_identity",
        "_listener",
        "_login",
        "_long_lines",
        "_message_id",
        "_origin",
        "_progressed",
        "_queue_id",
        "_reader",
        "_settings",
        "_signed",
        "_utf8_header",
    )

    def __init__(
        self,
        envelope: Envelope,
        reader: Reader,
        *,
        listener: AnyListener,
        settings: ListenerSettings,
        origin: Origin,
        login: Login | None,
        entry: SenderEntry | None,
        commons: Commons,
        progressed: Callable[[], None],
    ) -> None:
        """`settings` are those with which the sender was judged, `entry` is that sender (None: an
        anonymous listener). `progressed` is called when the disk has caught up a little.
        """
        self._envelope = envelope
        self._reader = reader
        self._listener = listener
        self._settings = settings
        self._origin = origin
        self._login = login
        self._entry = entry
        self._identity: Identity = ANONYMOUS if entry is None else entry.identity
        self._commons = commons
        self._progressed: Callable[[], None] | None = progressed
        self._account = _NOBODY
        self._queue_id = ""
        self._content: Content | None = None
        self._header: Header | None = None
        self._message_id = ""
        self._signed = False  # checked if lines are long, or may be
        self._long_lines = False
        self._utf8_header = False
        self._complete = False
        self._done: Stored | None = None

    # --- before the octets

    def begin(self, surplus: int = 0) -> Problem | None:
        """The content is about to come: charge the limits, or return why it may not. `surplus`
        recipients were refused because there were too many.
        """
        commons, settings, identity = self._commons, self._settings, self._identity
        key = self._origin.client if self._entry is None else identity.uid
        self._account = account = commons.ledger.of(key)
        problem = commons.problem(account)
        if problem is None and self._listener.settings is not settings:
            problem = self._judge_again()
        if problem is not None:
            return problem
        if surplus and not settings.defers_surplus:
            return too_many_recipients(surplus, settings.max_recipients)
        limited = commons.limits.charge(
            identity, recipients=len(self._envelope.recipients), now=commons.loop.time()
        )
        if limited is not None:
            commons.metrics.limited(limited.scope, identity.namespace).inc()
            return limited.problem
        self._queue_id = commons.intake.new_id()
        self._content = Content(
            max_size=settings.max_size,
            budget=commons.budget,
            account=account,
            begin=self._begin,
            open_file=self._open_file,
        )
        return None

    def _judge_again(self) -> Problem | None:
        """Whether the sender is still accepted, or why not: called when there are new settings,
        since a reload may have revoked the login, suspended the sender or removed addresses.
        """
        login = self._login
        directory = self._listener.settings.directory
        self._entry = entry = None if login is None else login.entry_in(directory)
        return judge_sender(
            self._listener, self._origin, login, entry, self._envelope.envelope_sender, 0
        )

    # --- the octets

    def take(self, part: bytes) -> None:
        """The next octets, as returned by the reader."""
        content, reader = self._content, self._reader
        assert content is not None  # begin created it
        content.add(part)
        if (reader.bare_newline or reader.nul or reader.long_line) and content.problem is None:
            self._judge_octets(content)

    def _judge_octets(self, content: Content) -> None:
        """Refuse what the reader detected. A long line may be in the header, where it is corrected;
        it is checked when the header is complete.
        """
        reader = self._reader
        if reader.bare_newline or reader.nul:
            content.refuse(_malformed(reader))
        elif content.spilled:
            problem = self._judge_long_line()
            if problem is not None:
                content.refuse(problem)

    def _judge_long_line(self) -> Problem | None:
        """There is a long line in the body: it will be encoded, or why it is refused."""
        if not self._settings.encodes_long_lines:
            return refuse(Reason.MALFORMED_MESSAGE, "line", octets=MAX_TEXT_LINE)
        if self._signed:
            return refuse(Reason.MALFORMED_MESSAGE, "signed", octets=MAX_TEXT_LINE)
        self._long_lines = True
        self._reader.long_line = False  # it has been dealt with
        return None

    @property
    def octets(self) -> int:
        """How much content has come."""
        return self._content.octets if self._content is not None else 0

    @property
    def problem(self) -> Problem | None:
        """Why the message is refused, as far as that is known while it is received."""
        return self._content.problem if self._content is not None else None

    @property
    def crowded(self) -> bool:
        """Whether the disk is slower than the client."""
        return self._content is not None and self._content.crowded

    def drop(self) -> None:
        """Drop it, unless it is complete: then it belongs to the commit."""
        if self._content is not None and not self._complete:
            self._content.drop()

    # --- the end

    def finish(self, done: Stored) -> None:
        """The content is complete: pass it to the queue; `done` is called once, at once or
        later.
        """
        reader, content = self._reader, self._content
        assert content is not None  # begin created it
        self._complete = True
        self._done = done
        if (reader.bare_newline or reader.long_line) and content.problem is None:
            self._judge_octets(content)
        content.finish(self._held)

    def _held(self, prelude: bytes, body: Body | None, problem: Problem | None) -> None:
        """The content is complete, in memory or in a durable file: have the queue store it. An
        internal error is an answer too: the caller is never left waiting.
        """
        try:
            if body is None:
                self._finished("", problem)
            else:
                self._hand_over(prelude, body)
        except Exception as error:
            log.error("internal_error", listener=self._settings.name, exc_info=error)
            if self._content is not None:
                self._content.drop()
            self._finished("", refuse(Reason.INTERNAL_ERROR))

    def _finished(self, queue_id: str, problem: Problem | None) -> None:
        """Report the result, once."""
        done, self._done = self._done, None
        if done is not None:
            done(queue_id, problem)

    def _hand_over(self, prelude: bytes, body: Body) -> None:
        content, envelope = self._content, self._envelope
        assert content is not None  # begin created it
        # The configuration may have changed since MAIL: check again, before anything is promised.
        entry = self._entry
        if self._listener.settings is not self._settings:
            problem = self._judge_again()
            if problem is None and self._entry is not entry:
                assert self._header is not None  # it was read when the content began
                facts = ContentFacts(self._header, self._entry, envelope.smtputf8)
                problem = decide(CONTENT_CHAIN, facts)
            if problem is not None:
                content.refuse(problem)
                self._finished("", problem)
                return
        message = Message(
            queue_id=self._queue_id,
            envelope_sender=envelope.envelope_sender,
            recipient_count=len(envelope.recipients),
            identity=self._identity,
            listener=self._settings.name,
            received_at=time.time(),
            size=len(prelude) + (len(body) if isinstance(body, bytes) else body.size),
            prelude=prelude,
            body=body,
            eight_bit=self._reader.eight_bit,
            smtputf8=envelope.smtputf8 and self._is_utf8(),
            bulk=self._is_bulk(),
            long_lines=self._long_lines,
            dsn=envelope.dsn,
            message_id=self._message_id,
        )
        self._commons.intake.accept(
            message, envelope.recipients, lambda problem: self._committed(message, problem)
        )

    def _is_bulk(self) -> bool:
        """Its class: the sender's, which the header may only lower."""
        assert self._header is not None  # it was read when the content began
        return self._header.bulk or (self._entry is not None and self._entry.bulk)

    def _is_utf8(self) -> bool:
        """Whether the client's SMTPUTF8 matters: many clients always send it, and a later server
        may not support it.
        """
        envelope = self._envelope
        return (
            self._utf8_header
            or not envelope.envelope_sender.isascii()
            or not all(address.isascii() for address in envelope.recipients)
        )

    def _committed(self, message: Message, problem: Problem | None) -> None:
        """From the queue: stored, or not. Raises nothing into it."""
        content = self._content
        assert content is not None  # until here
        # Reference cycles would wait for the garbage collector, and there would be one for each
        # message.
        self._content = self._progressed = None
        if problem is not None:
            if problem.reason is Reason.SPOOL_FAILED:
                content.release()  # the disk may have it nevertheless: the next start decides
            else:
                content.drop()
            self._finished("", problem)
            return
        try:
            content.release()
            self._tell_accepted(message)
        except Exception as error:  # it is stored nevertheless, and answered accordingly
            log.error("internal_error", listener=message.listener, exc_info=error)
        self._finished(message.queue_id, None)

    def _tell_accepted(self, message: Message) -> None:
        metrics, identity, listener = self._commons.metrics, message.identity, message.listener
        metrics.received_messages(listener, identity.namespace).inc()
        metrics.received_bytes(listener, identity.namespace).inc(message.size)
        log.info(
            "accepted",
            queue_id=message.queue_id,
            sender=str(identity),
            envelope_sender=message.envelope_sender,
            recipients=self._envelope.recipients,
            recipient_count=message.recipient_count,
            client=self._origin.client,
            tls=self._origin.tls,
            size=message.size,
            message_id=message.message_id,
            listener=listener,
        )

    # --- what goes in front

    def _begin(self, octets: bytes) -> tuple[bytes, bytes] | Problem:
        """The trace headers for a message that begins with `octets` (its whole header, if of legal
        size), and those octets with the header corrected.
        """
        reader, entry, origin = self._reader, self._entry, self._origin
        header = self._header = read_header(octets)
        utf8 = self._envelope.smtputf8
        self._utf8_header = utf8 and not octets[: header.end].isascii()
        problem = decide(CONTENT_CHAIN, ContentFacts(header, entry, utf8))
        if problem is not None:
            return problem
        long_line = reader.long_line
        if long_line or len(octets) > SPILL_ABOVE:
            self._signed = is_signed(octets[: header.end])
        if long_line and has_long_line(octets, header.end):
            problem = self._judge_long_line()
            if problem is not None:
                return problem
        claims = bool(header.senders) and claims_to_be_another(header, entry, utf8=utf8)
        if header.mend or claims or long_line:
            mended = mend(octets, header, without_sender=claims)
            if isinstance(mended, str):
                return refuse(Reason.MALFORMED_MESSAGE, fault=mended)
            octets = mended
            reader.long_line = False  # the next one is in the body
        octets = self._settings.control_fields.without(octets)
        at = int(time.time())
        hostname = self._settings.hostname
        prelude = trace.received(
            helo=origin.helo,
            client=trace.client_literal(origin.client),
            hostname=hostname,
            # RFC 6531 section 4.3
            protocol=origin.protocol.replace("ESMTP", "UTF8SMTP") if utf8 else origin.protocol,
            queue_id=self._queue_id,
            recipients=tuple(self._envelope.recipients),
            at=at,
        )
        self._message_id = header.message_id
        # Every listener accepts submissions (RFC 6409 section 8), with or without a login.
        if not header.has_date:
            prelude += trace.date(at)
        if not header.message_id:
            self._message_id = trace.message_id(self._queue_id, hostname)
            prelude += f"Message-ID: {self._message_id}\r\n".encode("ascii", "replace")
        return prelude, octets

    def _open_file(self, on_progress: Callable[[int], None]) -> BodyFile:
        commons = self._commons

        def progressed(octets: int) -> None:
            on_progress(octets)
            if self._progressed is not None:
                self._progressed()

        return BodyFile(
            commons.intake.body_path(self._queue_id),
            loop=commons.loop,
            pool=commons.disk,
            on_progress=progressed,
        )


def _malformed(reader: Reader) -> Problem:
    if reader.bare_newline:
        return refuse(Reason.BARE_NEWLINE)
    return refuse(Reason.MALFORMED_MESSAGE, "nul")
