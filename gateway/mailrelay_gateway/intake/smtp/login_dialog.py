"""The part of a session's dialog about its identity: AUTH, and what has become of the login since.

smtp/server/sasl.py knows how a mechanism works, authentication.py whether a password is right. This
module connects them, and ends logins: when a sender or its verifier is no longer in the
configuration, the session gets 421 at its next MAIL (policy/chain.py) and may log in again.
"""

from __future__ import annotations

from mailrelay_gateway.contract.stage import Stage
from mailrelay_gateway.intake.authentication import Login, Verdict
from mailrelay_gateway.intake.judges import UNKNOWN, Origin
from mailrelay_gateway.intake.places import too_many
from mailrelay_gateway.intake.smtp.connection import Connection
from mailrelay_gateway.intake.smtp.mode import WAITING
from mailrelay_gateway.message.trace import transmission
from mailrelay_gateway.policy.senders import Directory, SenderEntry
from mailrelay_gateway.reasons import Reason
from mailrelay_gateway.smtp.refusal import Problem, refuse
from mailrelay_gateway.smtp.reply import Reply
from mailrelay_gateway.smtp.server import sasl
from mailrelay_gateway.smtp.server.commands import MOVES, Move, State, next_state, sequence_problem

#: Failed logins before the session is closed.
MAX_LOGIN_FAILURES = 3

_LOGGED_IN = Reply(235, "2.7.0", "Logged in").encode()


class LoginDialog(Connection):
    """A connection that knows the state of its dialog and who logged in."""

    # What a session begins with: see Connection.
    state = State.START
    origin = UNKNOWN
    login: Login | None = None
    exchange: sasl.Exchange | None = None  # an AUTH in progress
    _login_directory: Directory | None = None  # by which `_login_entry` was looked up
    _login_entry: SenderEntry | None = None
    _login_failures = 0

    def may(self, move: Move, stage: Stage) -> bool:
        """Whether `move` is legal now; replies if it is not."""
        if move in MOVES[self.state]:
            return True
        self.out_of_order(stage, move)
        return False

    def out_of_order(self, stage: Stage, move: Move) -> None:
        """Reply that `move` is not legal now."""
        problem = sequence_problem(self.state, move)
        assert problem is not None  # MOVES says so
        self.refuse(stage, problem)

    def move(self, move: Move) -> None:
        """Make `move`; the caller has checked that it is legal."""
        self.state = next_state(self.state, move)

    def know_origin(self, helo: str, *, extended: bool) -> None:
        """The client sent EHLO, or logged in."""
        tls, login = self.tls, self.login
        protocol = transmission(extended=extended, tls=bool(tls), authenticated=login is not None)
        self.origin = Origin(self.client, tls, helo, protocol)

    def on_auth(self, argument: bytes) -> None:
        """Handle the command AUTH."""
        if not self.settings.auth_required:
            problem = refuse(Reason.COMMAND_UNKNOWN, "auth")
        elif not self.tls:
            problem = refuse(Reason.TLS_REQUIRED)
        elif self.login is not None:
            problem = refuse(Reason.BAD_SEQUENCE, "auth")
        else:
            if self.may(Move.AUTH, Stage.AUTH):
                self.login_step(sasl.begin(argument))
            return
        self.refuse(Stage.AUTH, problem)

    def login_step(self, step: sasl.Step) -> None:
        """Carry out a step: send a challenge, refuse, or have the credentials checked."""
        if isinstance(step, sasl.Challenge):
            self.exchange = step.exchange
            self.reply(f"334 {step.prompt}\r\n".encode("ascii"))
        elif isinstance(step, Problem):
            self.refuse(Stage.AUTH, step)
        else:
            self.settings = self.listener.settings
            directory, began = self.settings.directory, self.loop.time()
            self.wait()
            self.commons.authenticator.check(
                directory,
                step,
                self.client,
                lambda: self.mode is WAITING,
                lambda verdict, login: self._decided(step, began, verdict, login),
            )

    def _decided(
        self, tried: sasl.Credentials, began: float, verdict: Verdict, login: Login | None
    ) -> None:
        """The verdict on a login. A failure is answered a fixed time after the command, whatever it
        cost.
        """
        self.commons.metrics.auth_attempts(tried.mechanism, verdict).inc()
        if verdict is Verdict.FAILED:
            # The name if it is one of ours; people type passwords where the username belongs.
            known = tried.username in self.settings.directory.by_username
            who = tried.username if known else self.commons.authenticator.alias(tried.username)
            self.loop.call_at(began + self.commons.timeouts.failure, self._login_failed, who)
        elif self.mode is WAITING:  # otherwise the client has disconnected
            self.guard(lambda: self._login_decided(verdict, login))

    def _login_decided(self, verdict: Verdict, login: Login | None) -> None:
        uid = "" if login is None else login.entry.identity.uid
        no_place = self.place.settle(uid) if uid and self.place is not None else ""
        if no_place:
            self.refuse(Stage.AUTH, too_many(no_place))
        elif login is not None:
            self.login = login
            self.know_origin(self.origin.helo, extended=True)
            assert self.session is not None  # there is one as long as the connection
            self.session.authenticated = True
            self.move(Move.AUTH)
            self.reply(_LOGGED_IN)
        elif verdict is Verdict.BUSY:
            self.refuse(
                Stage.AUTH,
                refuse(Reason.AUTH_BUSY),
            )
        else:
            self.refuse(Stage.AUTH, refuse(Reason.INTERNAL_ERROR, "auth"))
        self.carry_on()

    def _login_failed(self, who: str) -> None:
        if self.mode is WAITING:
            self.guard(lambda: self._refuse_login(who))

    def _refuse_login(self, who: str) -> None:
        self._login_failures += 1
        self.refuse(Stage.AUTH, refuse(Reason.AUTH_FAILED, detail=f"username {who}"))
        if self._login_failures >= MAX_LOGIN_FAILURES:
            self.refuse(
                Stage.AUTH,
                refuse(Reason.TOO_MANY_ERRORS, "logins"),
            )
        self.carry_on()

    def sender_entry(self) -> SenderEntry | None:
        """Who logged in, according to the current configuration; None if the sender or its verifier
        is gone.
        """
        login = self.login
        if login is None:
            return None
        directory = self.settings.directory
        if directory is not self._login_directory:
            self._login_entry = login.entry_in(directory)
            self._login_directory = directory
        return self._login_entry
