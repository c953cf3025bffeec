"""One connection to an upstream: drives the sans-IO client, takes attempts and reports outcomes,
all in callbacks.

No task per message: when a transaction ends, its outcome is reported, and the next attempt starts
in the same callback and leaves in the same write. Tasks exist only for a TLS handshake and for a
body that is read from a file. `classify` says what replies mean, `pool` when connections are opened
and closed. Over 500 lines because it is one state with its callbacks, and any part of them
elsewhere would depend on all of it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import assert_type, cast

import structlog

from mailrelay_gateway.contract.documents import TlsMode
from mailrelay_gateway.contract.stage import Stage
from mailrelay_gateway.couriers.replies.classify import (
    ENDING_OF,
    classify_session,
    classify_transaction,
)
from mailrelay_gateway.couriers.replies.verdict import Ending, Failure, Verdict
from mailrelay_gateway.couriers.smtp import parting
from mailrelay_gateway.couriers.smtp.addressing import set_apart
from mailrelay_gateway.couriers.smtp.body_stream import UnreadableBody, stream_body
from mailrelay_gateway.couriers.smtp.connection_settings import ConnectionSettings
from mailrelay_gateway.couriers.smtp.conversion import convert, needs_conversion, refused
from mailrelay_gateway.couriers.smtp.deadlines import Watchdog
from mailrelay_gateway.couriers.smtp.owner import Owner
from mailrelay_gateway.couriers.smtp.report import Delays, Reporter
from mailrelay_gateway.couriers.smtp.sockets import Progress
from mailrelay_gateway.couriers.smtp.stalls import Waiting
from mailrelay_gateway.couriers.smtp.tls import (
    HandshakeFailed,
    NoTls,
    describe_tls_error,
    start_tls,
    tls_version,
)
from mailrelay_gateway.couriers.work import Work
from mailrelay_gateway.message.attribution import Unattributable
from mailrelay_gateway.message.effect import Reconnect
from mailrelay_gateway.message.envelope import (
    Attempt,
    AttemptRecipient,
    Message,
    Outcome,
    Result,
)
from mailrelay_gateway.message.mime.seven_bit import Unconvertible
from mailrelay_gateway.reasons import Reason
from mailrelay_gateway.smtp.client.client import SmtpClient
from mailrelay_gateway.smtp.client.commands import UnsendableAddress
from mailrelay_gateway.smtp.client.events import (
    Event,
    Goodbye,
    SendBody,
    SessionEnded,
    SessionReady,
    StartTls,
    TransactionEnded,
    Transcript,
    Trouble,
)
from mailrelay_gateway.smtp.client.states import STAGES, State
from mailrelay_gateway.smtp.dsn import DsnParameters
from mailrelay_gateway.smtp.reply import Reply

log = structlog.get_logger()

# A look-up in an enum is slow (Python 3.11), and each message asks for these.
_READY, _TLS, _BODY, _COMPLETE = State.READY, State.TLS, State.BODY, Ending.COMPLETE


class Connection(asyncio.Protocol):
    """A connection from TCP to QUIT. `ready` is done with None when MAIL may be sent, or with the
    reason why it never may.
    """

    def __init__(
        self,
        settings: ConnectionSettings,
        *,
        owner: Owner[Connection],
        work: Work,
        reporter: Reporter,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Create one for `loop.create_connection`, inside the running loop."""
        self._loop = asyncio.get_running_loop()
        self._settings = settings
        self._owner = owner
        self._work = work
        self._reporter = reporter
        self._clock = clock
        self._client = SmtpClient(settings.client)
        self._seconds = {state: settings.deadlines.of(state) for state in State}
        self._watchdog = Watchdog(self._loop, self._expired)
        self._transport: asyncio.Transport | None = None
        self._task: asyncio.Task[None] | None = None  # handshake, or body from a file
        self._paused = False  # octets are in our own buffer
        self._drained: asyncio.Future[None] | None = None  # someone waits until it is empty
        self._attempt: Attempt | None = None
        self._converting: Attempt | None = None  # taken, and not reported yet
        self._message: Message  # of the attempt, as sent to this server
        self._targets: Sequence[AttemptRecipient] = ()
        self._refused_here: list[Outcome] = []  # recipients that could not be sent
        self._began_at = 0.0
        self._replies = 0  # of the client's, when it last was given time
        self._progress: Progress | None = None  # once TCP is up
        self.retired = False  # we have ended it ourselves
        self._closed = False
        self._connect_seconds = 0.0
        self.completed = 0  # transactions
        self.fruitful = False  # though none was completed: see `barren`
        self.opened_at = 0.0  # in the loop's time
        #: How the server closed it in the middle of a transaction.
        self.parting: Failure | None = None
        self.tls_version = ""
        self.ready: asyncio.Future[Failure | None] = self._loop.create_future()

    def __repr__(self) -> str:
        """The destination, the state, and how much was sent."""
        return f"<Connection {self._settings.host} {self._client.state.name} {self.completed} sent>"

    # --- what the pool does

    @property
    def usable(self) -> bool:
        """Whether `next` may be called: the session is up and no transaction is in progress."""
        over = self._closed or self.retired
        busy = self._attempt is not None or self._converting is not None
        return not over and not busy and self._client.state is State.READY

    @property
    def connected(self) -> bool:
        """Whether TCP is or was up."""
        return self._progress is not None

    @property
    def waiting(self) -> Waiting:
        """What it waits for, and since when. Called seldom: it asks the kernel."""
        heard = 0.0
        if self._progress is not None and self._transport is not None:
            heard = self._progress.look(self._transport, self._loop.time())
        return Waiting(STAGES[self._client.state], max(self._began_at, heard), heard)

    def opened(self, connect_seconds: float) -> None:
        """The pool has accepted it; opening it took so long."""
        self._connect_seconds = connect_seconds
        self.opened_at = self._loop.time()

    def hand_to(self, owner: Owner[Connection]) -> None:
        """Report to another owner from now on."""
        self._owner = owner

    def next(self) -> bool:
        """Take the next attempt and start it; False: nothing was ready, or it is leaving."""
        took = self._next()
        self._flush()
        return took

    def retire(self) -> None:
        """Take no more attempts; leave after the current one."""
        if not self.retired:
            if self.usable:
                self._leave()
                self._flush()
            self.retired = True

    def abort(self, ending: Ending = Ending.STOPPED) -> None:
        """Abort the connection now; a transaction in progress ends as `ending`."""
        self.retired = True
        if self._attempt is not None:
            self._end_transaction(ending, self._client.transcript)
        if self._transport is not None:
            self._transport.abort()

    # --- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """TCP is up; or, a second time in some loops, TLS is."""
        self._transport = cast(asyncio.Transport, transport)
        if self._progress is None:
            self._progress = Progress(self._transport)
            self._began_at = self._loop.time()
        # Any unsent octet counts as not sent: then a body whose dot is still here cannot have been
        # accepted.
        self._transport.set_write_buffer_limits(high=0)
        if self._settings.client.tls is TlsMode.IMPLICIT and self._client.state is State.TLS:
            self._start_handshake()
        self._give_time()

    def data_received(self, data: bytes) -> None:
        """Octets from the server."""
        try:
            self._receive(data)
        except Exception as error:
            self._fail(error)

    def _receive(self, data: bytes) -> None:
        """Process input: the core of the connection."""
        assert self._progress is not None
        self._progress.heard_at = self._loop.time()
        if self._client.state is _TLS and self._spoke_before_tls():
            return
        for event in self._client.receive(data):
            self._handle(event)
        self._flush()

    def pause_writing(self) -> None:
        """The socket accepts no more."""
        self._paused = True

    @property
    def _keeps_octets(self) -> bool:
        """Whether part of what was written has not reached the kernel. Under TLS a write that
        passed through it is in the TCP transport, and `pause_writing` is not called for it.
        """
        return self._paused or (self._progress is not None and self._progress.kept > 0)

    def resume_writing(self) -> None:
        """All octets have reached the kernel."""
        self._paused = False
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone, whoever closed it."""
        if self._closed:
            return
        self._closed = True
        self._watchdog.stop()
        if self._client.state is State.TLS:
            detail = describe_tls_error(exc, self._settings.server_name)
            self._broken(Ending.LOST, Failure(Stage.TLS, Reason.UPSTREAM_TLS_FAILED, detail))
        else:
            self._broken(Ending.LOST, parting.lost(self._client.state, exc))
        if self._task is not None:
            self._task.cancel()
        self._give_back_converting()
        self._owner.connection_closed(self)

    # --- events

    def _handle(self, event: Event) -> None:
        if isinstance(event, TransactionEnded):
            self.completed += 1
            self._end_transaction(_COMPLETE, event.transcript)
            if self._client.state is not _READY:
                return
            if self._keeps_octets:
                # It answered before it had read the body: it might take the rest for commands.
                self.abort(Ending.PROTOCOL)
            elif self._next():
                self._owner.backlog()
        elif isinstance(event, SendBody):
            self._send_body()
        elif isinstance(event, SessionReady):
            if not self.ready.done():
                self.ready.set_result(None)
        elif isinstance(event, StartTls):
            if self._client.state is State.TLS:
                self._start_handshake()
        elif isinstance(event, SessionEnded):
            self._end_session(event)
        else:
            assert_type(event, Goodbye)
            if self._transport is not None:
                self._transport.close()

    def _end_session(self, event: SessionEnded) -> None:
        if self._attempt is not None:
            ending = ENDING_OF.get(event.trouble, Ending.PROTOCOL)
            closing = event.reply if event.trouble is Trouble.CLOSING else None
            self._broken(ending, parting.ended(event), closing=closing)
            if self._transport is not None:
                self._transport.abort()
            return
        if not self.ready.done():
            self.ready.set_result(classify_session(event, self._settings.rules, now=self._clock()))
        elif event.trouble is not Trouble.CLOSING:
            log.warning(
                "upstream_protocol_error",
                upstream=self._settings.lane.upstream,
                host=self._settings.host,
                detail=event.detail,
            )
        self._owner.connection_leaving(self)
        if self._transport is not None:
            self._transport.close()

    def _expired(self) -> None:
        """The server was silent past its deadline."""
        state = self._client.state
        if self._converting is not None:
            self._give_time()  # it waits for us
            return
        if state is State.READY and self.ready.done():
            self._leave()
            self._flush()
            return
        self._broken(Ending.TIMEOUT, parting.silent(state, self._seconds[state]))
        if self._transport is not None:
            self._transport.abort()

    def _broken(self, ending: Ending, failure: Failure, *, closing: Reply | None = None) -> None:
        """The session ended prematurely."""
        if self._attempt is not None:
            self.parting = replace(failure, detail=f"{self._settings.host} {failure.detail}")
            self._end_transaction(
                ending, self._client.transcript, closing=closing, detail=failure.detail
            )
        if not self.ready.done():
            self.ready.set_result(failure)

    def _flush(self) -> None:
        """Write what the client has to send; if the dialog advanced, start the server's next
        deadline. Single octets do not count: a server must not be able to hold us by sending
        slowly.
        """
        client = self._client
        output = client.take_output()
        if output and self._transport is not None:
            self._transport.write(output)
        if output or client.replies != self._replies:
            self._replies = client.replies
            self._give_time()

    def _give_time(self) -> None:
        if not self._closed:
            self._watchdog.feed(self._seconds[self._client.state])

    def _leave(self) -> None:
        self._client.quit()
        self.retired = True
        self._owner.connection_leaving(self)

    # --- attempts

    def _next(self) -> bool:
        settings = self._settings
        over = self.retired or self.completed >= settings.messages
        if over or (settings.login_over is not None and settings.login_over()):
            self._leave()
            self._owner.backlog()  # what we do not take, another connection has to
            return False
        while True:
            attempt = self._work.take(self._settings.lane, self._owner.recipients_cap)
            if attempt is None:
                self._owner.connection_idle(self)
                return False
            if self._begin(attempt):
                return True

    def _begin(self, attempt: Attempt) -> bool:
        """Start a transaction; False: it could not be sent to anyone, and has ended."""
        self._began_at = self._loop.time()
        if self._settings.attributor is not None:
            try:
                self._settings.attributor.attributed(attempt.message)
            except Unattributable as error:
                self._finish(attempt, self._owner.unattributable(attempt, str(error)))
                return False
        if needs_conversion(attempt.message, self._client.capabilities):
            self._converting = attempt
            self._task = self._loop.create_task(self._convert(attempt))
            return True
        return self._begin_with(attempt, attempt.message)

    async def _convert(self, attempt: Attempt) -> None:
        """Re-encode a message in a thread, then start its transaction."""
        message: Message | None = None
        outcomes: Sequence[Outcome] = ()
        try:
            message = await asyncio.to_thread(convert, attempt.message, self._client.capabilities)
        except Unconvertible as error:
            outcomes = refused(error, attempt.recipients, self._settings.host)
        except Exception as error:
            if isinstance(error, UnreadableBody):
                log.error("body_damaged", queue_id=attempt.message.queue_id, error=str(error))
            else:  # a defect of ours
                log.error("internal_error", queue_id=attempt.message.queue_id, exc_info=error)
            outcomes = [
                Outcome(each.index, Result.DEFERRED, Reason.INTERNAL_ERROR)
                for each in attempt.recipients
            ]
        if self._converting is None or self._client.state is not State.READY:
            self._give_back_converting()  # meanwhile the server has ended the session
            return
        self._task = self._converting = None
        try:
            if message is None:
                self._finish(attempt, outcomes)
            if message is None or not self._begin_with(attempt, message):
                self._next()
            self._flush()
        except Exception as error:
            self._fail(error)

    def _give_back_converting(self) -> None:
        attempt, self._converting = self._converting, None
        if attempt is not None:
            self._work.give_back(attempt)

    def _begin_with(self, attempt: Attempt, message: Message) -> bool:
        self._attempt = attempt
        if self._settings.attributor is not None:
            message = self._settings.attributor.attributed(message)
        self._message = message
        self._targets = attempt.recipients
        try:
            self._begin_transaction()
        except UnsendableAddress:
            utf8 = message.smtputf8 and self._client.capabilities.smtputf8
            self._targets, self._refused_here = set_apart(
                message, attempt.recipients, utf8=utf8, host=self._settings.host
            )
            if not self._targets:
                self._finish(attempt, self._refused_here)
                return False
            self._begin_transaction()
        return True

    def _begin_transaction(self) -> None:
        message = self._message
        self._client.begin(
            message.envelope_sender or self._settings.null_sender,
            [recipient.address for recipient in self._targets],
            size=message.size,
            eight_bit=message.eight_bit,
            smtputf8=message.smtputf8,
            dsn=None if message.dsn is None else self._dsn(message.dsn),
        )

    def _dsn(self, dsn: DsnParameters) -> DsnParameters:
        """The message's, with those of this transaction's recipients."""
        return replace(dsn, recipients=tuple([dsn.of(each.index) for each in self._targets]))

    def _end_transaction(
        self,
        ending: Ending,
        transcript: Transcript,
        *,
        closing: Reply | None = None,
        detail: str = "",
    ) -> None:
        try:
            self._end_attempt(ending, transcript, closing=closing, detail=detail)
        except Exception as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        """A defect of ours costs neither an attempt nor this connection's place in the pool."""
        log.error("internal_error", upstream=self._settings.lane.upstream, exc_info=error)
        attempt, self._attempt = self._attempt, None
        self.retired = True
        if attempt is not None:
            result, reason = parting.unjudged(self._client.transcript)
            self._work.finish(
                attempt, [Outcome(each.index, result, reason) for each in attempt.recipients]
            )
        if self._transport is not None:
            self._transport.abort()

    def _end_attempt(
        self,
        ending: Ending,
        transcript: Transcript,
        *,
        closing: Reply | None = None,
        detail: str = "",
    ) -> None:
        attempt = self._attempt
        assert attempt is not None
        if self._task is not None:
            self._task.cancel()
        if transcript.dot_sent and self._keeps_octets:
            transcript, ending, detail = parting.dot_kept(transcript, ending, detail)
        verdict = classify_transaction(
            transcript,
            ending,
            attempts=[target.attempts for target in self._targets],
            reused=self.completed > 0,
            closing=closing,
            detail=detail,
            rules=self._settings.rules,
            now=self._clock(),
        )
        if verdict.give_back:
            self._heed(verdict, transcript)
            self._attempt, self._refused_here = None, []
            self._reporter.given_back(attempt, host=self._settings.host, ending=ending.name.lower())
            self._work.give_back(attempt)
            self._owner.backlog()
            return
        verdict = self._owner.judge(self, verdict, attempt.message)
        if verdict.failure is not None:
            self._report_trouble(verdict.failure)
        elif verdict.passed is not None:
            self._owner.mail_accepted(verdict.passed)
        self._heed(verdict, transcript)
        self._finish(attempt, self._outcomes(attempt, verdict))

    def _heed(self, verdict: Verdict, transcript: Transcript) -> None:
        """What the upstream's replies mean for this connection, or for all."""
        self.retired = self.retired or isinstance(verdict.effect, Reconnect)
        self._owner.heed(verdict, transcript)

    def _outcomes(self, attempt: Attempt, verdict: Verdict) -> list[Outcome]:
        outcomes = verdict.outcomes([r.index for r in self._targets], self._settings.host)
        if attempt.message.dsn is not None and self._client.capabilities.dsn:
            outcomes = [replace(outcome, dsn_passed=True) for outcome in outcomes]
        if self._refused_here:
            by_index = {outcome.index: outcome for outcome in outcomes + self._refused_here}
            outcomes = [by_index[recipient.index] for recipient in attempt.recipients]
        return outcomes

    def _finish(self, attempt: Attempt, outcomes: Sequence[Outcome]) -> None:
        self._attempt, self._refused_here = None, []
        delays = Delays(
            self._clock() - attempt.message.received_at,
            self._connect_seconds,
            self._loop.time() - self._began_at,
        )
        self._connect_seconds = 0.0
        self._reporter.finished(
            attempt, outcomes, host=self._settings.host, tls=self.tls_version, delays=delays
        )
        self._work.finish(attempt, outcomes)

    def _report_trouble(self, failure: Failure) -> None:
        """The pool is told before the queue gets the attempt back, so that it is not tried here
        again.
        """
        self.retired = True
        self._owner.login_refused(
            replace(failure, detail=f"{self._settings.host} {failure.detail}")
        )

    # --- bodies

    def _send_body(self) -> None:
        if self._attempt is None or self._client.state is not _BODY:
            return
        message = self._message
        if isinstance(message.body, bytes):
            octets = len(message.prelude) + len(message.body)
            if octets != message.size:  # a defect of ours must never be sent as mail
                error = f"it has {octets} octets, {message.size} were stored"
                log.error("body_damaged", queue_id=message.queue_id, error=error)
                self.abort(Ending.OUR_FAULT)
                return
            self._client.send_body(message.body, message.prelude)
        else:
            self._task = self._loop.create_task(self._stream(message))

    async def _stream(self, message: Message) -> None:
        try:
            dot = await stream_body(message, self._send_chunk)
        except UnreadableBody as error:
            if self._attempt is not None:
                log.error("body_damaged", queue_id=message.queue_id, error=str(error))
            self._task = None
            self.abort(Ending.OUR_FAULT)
            return
        assert self._transport is not None
        self._task = None
        self._transport.write(dot)
        self._client.body_sent()
        self._flush()

    async def _send_chunk(self, chunk: bytes) -> None:
        """Write, and wait until the kernel has it: each chunk has its own deadline."""
        assert self._transport is not None
        self._transport.write(chunk)
        self._watchdog.feed(self._seconds[_BODY])
        if self._paused:
            self._drained = self._loop.create_future()
            await self._drained

    # --- TLS

    def _start_handshake(self) -> None:
        """Read nothing more in cleartext, and shake hands in a task."""
        assert self._transport is not None
        self._transport.pause_reading()
        self._task = self._loop.create_task(self._shake_hands())

    def _spoke_before_tls(self) -> bool:
        """Octets in cleartext before the handshake's task ran, which must not get them. Returns
        whether the client needs nothing else.
        """
        if self._task is not None:
            self._task.cancel()
            self._task = None
        if self._settings.client.tls is not TlsMode.IMPLICIT or self._transport is None:
            return False  # the client says what is wrong with it
        self._transport.abort()
        self.connection_lost(NoTls())
        return True

    async def _shake_hands(self) -> None:
        assert self._transport is not None
        settings = self._settings
        try:
            transport = await start_tls(
                self._transport,
                self,
                context=settings.tls_context,
                server_name=settings.server_name,
                deadlines=settings.deadlines,
            )
        except HandshakeFailed as failed:
            self._task = None
            self._transport.abort()
            self.connection_lost(failed.error)  # after a failed handshake some loops do not call it
            return
        self._task = None
        if self._closed:
            transport.abort()
            return
        self._transport = transport
        # Not 0: TLS transports compare with `size >= high`, and would pause whenever empty.
        transport.set_write_buffer_limits(high=1, low=0)
        self.tls_version = tls_version(transport)
        assert self._progress is not None
        self._progress.heard_at = self._loop.time()
        self._client.tls_established()
        self._flush()
        self._give_time()
