"""One client's connection: octets in, lines and content out, clocks, TLS, the end.

Derives from aiosmtpd's SMTP, whose session object, protocol identity and STARTTLS contract stay;
its read loop, tasks, timers and writes are replaced by callbacks, since each of them costs more
than all the rest of a message (PITFALLS: 162 us for a constructor, a timer and a task per line, a
write per reply line). How it answers is answers.py's, what a line means session.py's.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

import structlog
from aiosmtpd.smtp import Session as SmtpSession

from mailrelay_gateway.contract.stage import Stage
from mailrelay_gateway.intake.budget import too_much_kept
from mailrelay_gateway.intake.places import MAKE_ROOM, Place, too_many
from mailrelay_gateway.intake.smtp.answers import Answers
from mailrelay_gateway.intake.smtp.mode import CLOSING, CONTENT, LINES, WAITING, Mode
from mailrelay_gateway.reasons import Reason
from mailrelay_gateway.smtp.refusal import refuse
from mailrelay_gateway.smtp.server.commands import MAX_AUTH_LINE, MAX_LINE, line_too_long

if TYPE_CHECKING:
    from mailrelay_gateway.intake.commons import Commons
    from mailrelay_gateway.intake.smtp.settings import SmtpListener

log = structlog.get_logger()

#: Octets of input that may be kept while a commit or a login is pending; above that, the socket is
#: not read. One read of uvloop (256 KiB) may be added.
KEPT_LIMIT = 64 * 1024
#: The same for a client that has not logged in yet, and has to wait for the reply to AUTH (RFC 4954
#: section 4).
KEPT_BY_STRANGERS = 16 * 1024
#: Commands of one session before the others have their turn: a read contains thousands.
TURN = 64


class Connection(Answers):
    """The protocol object of one connection. Subclasses define what lines, content and the end
    mean.
    """

    # Initial values. In the class, since setting thirty attributes is the largest cost of a
    # connection.
    tls = ""  # version and cipher, for the log
    _kept = b""
    _working = False
    _resuming = False  # the rest of the input has its turn after the others
    _handshaking = False
    _ended = False  # the client sent its last octet
    _lost = False
    _stopping = False
    _reading = True
    _congested = False  # the client does not read our replies
    place: Place | None = None
    _held = 0  # octets of the budget that the kept input takes
    _since = 0.0  # when it began
    _heard_at = 0.0
    _content_since = 0.0
    _clock: asyncio.TimerHandle | None = None
    _upgrade: asyncio.Task[None] | None = None

    def __init__(self, listener: SmtpListener, commons: Commons) -> None:
        """Initialise before the connection.

        Not by super().__init__(): that costs 162 us per connection to find hooks that we do not
        use, and clears a table that all connections share. What is set here and above is all that
        the inherited methods use.
        """
        self.listener = listener
        self.commons = commons
        self.settings = settings = listener.settings
        self.loop = self._loop = commons.loop
        self._time = commons.loop.time
        self.hostname = settings.hostname
        self._out: list[bytes] = []

    # --- what a subclass says

    def on_line(self, line: bytes) -> None:
        """Handle one line, including its line ending."""
        raise NotImplementedError

    def on_content(self, octets: bytes, position: int) -> int:
        """Handle content from `position`; return where it ended, or the length of `octets`."""
        raise NotImplementedError

    def on_crowded(self) -> bool:
        """Whether content arrives faster than it can be processed."""
        return False

    def on_lost(self) -> None:
        """Release everything: the connection is gone."""
        raise NotImplementedError

    def content_octets(self) -> int:
        """How much of the current message has arrived."""
        return 0

    # --- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client connected (and, on an implicit listener, completed the handshake): count it,
        greet it.
        """
        self.transport = cast("asyncio.Transport", transport)
        self._begin_session()
        self._since = self._heard_at = self._time()
        problem = self.listener.enter(self)
        if problem is not None:
            self.refuse(Stage.CONNECT, problem)
            self.flush()
            self._lost = True
            self.mode = CLOSING
            self.transport.close()
            return
        timeouts = self.commons.timeouts
        first = min(timeouts.idle, timeouts.login) if self.stranger else timeouts.idle
        self._clock = self.loop.call_later(first, self._look_at_clock)
        self.transport.write(self.settings.banner)

    def _begin_session(self) -> None:
        """A session object for the current transport: after STARTTLS nothing of the old one is
        kept.
        """
        assert self.transport is not None  # the caller set it
        self.session = SmtpSession(self.loop)
        self.session.peer = peer = self.transport.get_extra_info("peername")
        self.client = unmapped(peer[0]) if peer else ""
        # The listener's settings say whether to ask: asking costs as much as all the rest here.
        tls = self.transport.get_extra_info("ssl_object") if self.settings.tls is not None else None
        if tls is not None:
            self.session.ssl = {"cipher": tls.cipher()}
            self.tls = f"{tls.version()} {tls.cipher()[0]}"

    def data_received(self, data: bytes) -> None:
        """Take input: all complete lines of it are answered before this returns, in one write."""
        self._heard_at = self._time()
        mode = self.mode
        if mode is CLOSING:
            return
        if self._kept:
            data = self._kept + data
            self._kept = b""
        if mode is WAITING or self._resuming:
            self._kept = data
            self._account_for_kept()
            self.adjust_reading()
            return
        self._work(data)

    def eof_received(self) -> bool:
        """The client sent its last octet: what is pending is still answered, if the transport can
        do that.
        """
        self._ended = True
        pending = self._resuming or (self.mode is WAITING and not self._handshaking)
        return pending and not self.tls  # TLS has no half-closed connections

    def connection_lost(self, error: Exception | None) -> None:
        """The connection is gone. A pending commit continues without it."""
        if self._lost:
            return
        self._lost = True
        self.mode = CLOSING
        if self._clock is not None:
            self._clock.cancel()
        self._kept = b""
        if self._held:
            self._account_for_kept()
        self.listener.leave(self)
        self.on_lost()
        self.transport = None

    def pause_writing(self) -> None:
        """The client does not read our replies: read no further commands until it does."""
        self._congested = True
        self.adjust_reading()

    def resume_writing(self) -> None:
        """The client reads again."""
        self._congested = False
        self.adjust_reading()

    # --- reading

    def _work(self, data: bytes) -> None:
        """Handle as much of `data` as the modes allow, keep the rest, reply."""
        position, length, left = 0, len(data), TURN
        self._working = True
        try:
            while position < length:
                mode = self.mode
                if mode is LINES:
                    end = data.find(b"\n", position) + 1
                    if end == 0 or left == 0:
                        break
                    left -= 1
                    line = data if end - position == length else data[position:end]
                    position = end
                    self.on_line(line)
                elif mode is CONTENT:
                    position = self.on_content(data, position)
                else:
                    break
        except Exception as error:
            self.fail(error)
        self._working = False
        if position < length and self.mode is not CLOSING:
            self._kept = data[position:]
            if self.mode is LINES and left == 0:
                self._resuming = True
                self.loop.call_soon(self._resume)
            elif self.mode is LINES and length - position > MAX_AUTH_LINE + 1:
                self.refuse(Stage.SESSION, line_too_long())
                self.hang_up()
        if self._held or len(self._kept) > MAX_LINE:
            self._account_for_kept()
        if self._ended and self.mode is not WAITING and not self._resuming:
            self.hang_up()
        if self._out:
            self.flush()
        if self.mode is CONTENT or not self._reading or self._resuming:
            self.adjust_reading()

    def _account_for_kept(self) -> None:
        """Charge the budget for input that is kept, beyond one command line. A client that has not
        logged in must not send more while we wait, and is disconnected if there is no room.
        """
        octets = len(self._kept)
        octets = octets if octets > MAX_LINE else 0
        more, self._held = octets - self._held, octets
        if more == 0:
            return
        budget, account = self.commons.budget, self.commons.ledger.of(self.client)
        if more < 0:
            budget.give_back(-more, account)
        elif not self.stranger:
            budget.take_anyway(more, account)
        elif octets > KEPT_BY_STRANGERS or not budget.take(more, account):
            self._held -= more
            self.refuse(Stage.SESSION, too_much_kept())

    def _resume(self) -> None:
        """The others have had their turn."""
        self._resuming = False
        if self._stopping and self.mode is LINES:
            self.say_goodbye()
        elif self.mode is LINES:
            kept, self._kept = self._kept, b""
            self._work(kept)

    def wait(self) -> None:
        """Keep further input until `carry_on`."""
        self.mode = WAITING

    def carry_on(self, mode: Mode = LINES) -> None:
        """The wait is over: reply, and handle what was kept. Does nothing if the connection is
        gone.
        """
        if self.mode is not WAITING:
            return
        self.mode = mode
        self._heard_at = self._time()
        if self._working:
            return  # the wait ended before it began: _work continues by itself
        if self._stopping and mode is LINES:
            self.say_goodbye()
            return
        kept, self._kept = self._kept, b""
        self._work(kept)

    def adjust_reading(self) -> None:
        """Read the socket, or not: the only place that decides it."""
        if self.transport is None or self._handshaking or self.mode is CLOSING:
            return
        wanted = not (
            self._congested
            or ((self.mode is WAITING or self._resuming) and len(self._kept) > KEPT_LIMIT)
            or (self.mode is CONTENT and self.on_crowded())
        )
        if wanted is not self._reading:
            self._reading = wanted
            if wanted:
                self.transport.resume_reading()
            else:
                self.transport.pause_reading()

    # --- errors of ours

    def guard(self, step: Callable[[], None]) -> None:
        """Run a step that was started by a callback: an internal error is answered, and never
        raised into the caller.
        """
        try:
            step()
        except Exception as error:
            self.fail(error)

    def fail(self, error: Exception) -> None:
        """Answer an internal error with 451 and close. The traceback goes to the log, nothing to
        the client.
        """
        log.error("internal_error", listener=self.listener.name, client=self.client, exc_info=error)
        self.commons.metrics.rejected(
            self.listener.name, Stage.SESSION, Reason.INTERNAL_ERROR
        ).inc()
        problem = refuse(Reason.INTERNAL_ERROR)
        if self.mode is not CLOSING:
            self._out.append(problem.reply.encode())
            self.hang_up()

    # --- the end

    def hang_up(self, *, at_once: bool = False, slowly: bool = False) -> None:
        """Write pending replies, take nothing more, close. Unless `at_once`, the client has a
        moment to read: closing a socket with unread input resets it, and the reply would be lost.
        `slowly`: it is sending a message, and gets more time.
        """
        if self.mode is CLOSING or self.transport is None:
            return
        self.mode = CLOSING
        self._kept = b""
        if self._held:
            self._account_for_kept()
        self.on_lost()
        self.flush()
        transport = self.transport
        if not self._reading:
            self._reading = True
            transport.resume_reading()
        if at_once or self._ended:
            transport.close()
        else:
            if transport.can_write_eof():
                transport.write_eof()
            timeouts = self.commons.timeouts
            self.loop.call_later(timeouts.drain if slowly else timeouts.linger, self.abort)

    def abort(self) -> None:
        """Close without waiting for anything."""
        if self._upgrade is not None:
            self._upgrade.cancel()
        if self.transport is not None:
            self.transport.abort()

    @property
    def stranger(self) -> bool:
        """Whether a login is required and still missing."""
        place = self.place
        return place is not None and place.stranger and self.listener.settings.auth_required

    def make_room(self) -> None:
        """The place is needed for another client."""
        if self.mode is CLOSING:
            self.abort()
            return
        problem = too_many(MAKE_ROOM)
        self.log_refused(Stage.SESSION, problem)
        self.refuse_again(Stage.SESSION, problem)
        self.hang_up(at_once=True)
        if self.tls or self._handshaking:
            self.abort()  # nothing waits for the end of TLS

    def say_goodbye(self) -> None:
        """The gateway stops: 421 now if nothing is in progress, otherwise as soon as that is
        done.
        """
        self._stopping = True
        if self._handshaking:
            self.abort()
        elif self.mode is LINES and not self._working:
            self.refuse(
                Stage.SESSION,
                refuse(Reason.SHUTTING_DOWN),
            )

    # --- clocks

    def begin_content(self) -> None:
        """From now on content comes."""
        self.mode = CONTENT
        self._content_since = self.loop.time()

    def _look_at_clock(self) -> None:
        """The only timer of a session: it sleeps until the earliest moment at which something may
        be due.
        """
        now = self.loop.time()
        if self.mode is CLOSING:
            self.abort()
            return
        timeouts = self.commons.timeouts
        if self.mode is WAITING:  # the client waits for us, not we for it
            due = self._heard_at + timeouts.waiting
            if now >= due:
                log.error("store_timeout", listener=self.listener.name, client=self.client)
                self.abort()
                return
        else:
            due = self._heard_at + timeouts.idle
            problem = refuse(Reason.IDLE_TIMEOUT)
            if self.mode is CONTENT:
                allowed = timeouts.content_seconds(self.content_octets())
                due = min(due, self._content_since + allowed)
            if self.stranger and self._since + timeouts.login < due:
                due = self._since + timeouts.login
                problem = refuse(Reason.IDLE_TIMEOUT, "login", seconds=timeouts.login)
            if now >= due:
                self.refuse(Stage.SESSION, problem)
                due = now + timeouts.idle
        self._clock = self.loop.call_at(due, self._look_at_clock)

    # --- TLS

    def begin_tls(self) -> None:
        """Do the handshake of STARTTLS. What the client sent before it is dropped
        (CVE-2024-34083).
        """
        assert self.transport is not None
        assert self.settings.tls is not None  # the mode of the listener says so
        self.mode = WAITING
        self._handshaking = True
        self.transport.pause_reading()
        self._upgrade = self.loop.create_task(self._secure(self.settings.tls.context))

    async def _secure(self, context: ssl.SSLContext) -> None:
        assert self.transport is not None
        self._kept = b""
        try:
            secured = await self.loop.start_tls(
                self.transport,
                self,
                context,
                server_side=True,
                ssl_handshake_timeout=self.commons.timeouts.handshake,
            )
        except (Exception, asyncio.CancelledError) as error:  # whatever it was, there is no TLS
            self.listener.handshake_failed(self.client, error)
            self._handshaking = False
            if self.transport is not None:
                self.transport.abort()
            self.connection_lost(None)
            return
        self.commons.metrics.tls_handshakes(self.listener.name, "ok").inc()
        self._handshaking = False
        self._upgrade = None
        if self._lost or secured is None:
            return
        self.transport = secured
        self._begin_session()
        self._reading = True
        self.carry_on()


def unmapped(ip: str) -> str:
    """An IPv4 address from an IPv6 socket, as IPv4."""
    return ip[7:] if ip.startswith("::ffff:") and "." in ip else ip
