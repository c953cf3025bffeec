"""The states of the SMTP client and every legal move between them, as one table. Nothing else
decides what may follow. Pure.

Three phases: the session (greeting to READY, once a connection), transactions (RSET to FINAL,
many), the end. With PIPELINING the commands of a transaction are sent together, but their replies
pass through the same states.
"""

from __future__ import annotations

from enum import IntEnum, auto

from mailrelay_gateway.contract.stage import Stage


class State(IntEnum):
    """What the client waits for. A number, since those hash fastest and it is looked up often."""

    GREETING = auto()
    EHLO = auto()
    HELO = auto()
    STARTTLS = auto()
    TLS = auto()  # the owner starts TLS; the server may not send anything in cleartext
    AUTH_PLAIN = auto()
    AUTH_PLAIN_ASKED = auto()  # it asked for the initial response again
    AUTH_LOGIN = auto()
    AUTH_USERNAME = auto()
    AUTH_PASSWORD = auto()
    AUTH_BEARER = auto()
    AUTH_BEARER_SHOWN = auto()  # the token, after the server asked for it
    AUTH_BEARER_DISMISSED = auto()  # the error challenge was answered: now the server refuses
    READY = auto()  # for a transaction; the server may only send 421
    RSET = auto()
    MAIL = auto()
    RCPT = auto()
    DATA = auto()
    BODY = auto()  # the owner sends the message
    FINAL = auto()
    NOBODY = auto()  # 354 without a recipient: a lone dot was sent (RFC 2920 section 3.1)
    QUIT = auto()
    CLOSED = auto()


class IllegalMove(RuntimeError):
    """A move that is not in the table, or a call at the wrong time: a defect of ours. It changes
    nothing.
    """


_LOGIN = {State.AUTH_PLAIN, State.AUTH_LOGIN, State.AUTH_BEARER}

#: From any state to CLOSED, besides these.
MOVES: dict[State, frozenset[State]] = {
    State.GREETING: frozenset({State.EHLO}),
    State.EHLO: frozenset({State.HELO, State.STARTTLS, State.READY, *_LOGIN}),
    State.HELO: frozenset({State.READY}),
    State.STARTTLS: frozenset({State.TLS}),
    State.TLS: frozenset({State.EHLO, State.GREETING}),  # after STARTTLS; in implicit TLS
    State.AUTH_PLAIN: frozenset({State.AUTH_PLAIN_ASKED, State.AUTH_LOGIN, State.READY}),
    State.AUTH_PLAIN_ASKED: frozenset({State.AUTH_LOGIN, State.READY}),
    State.AUTH_LOGIN: frozenset({State.AUTH_USERNAME}),
    State.AUTH_USERNAME: frozenset({State.AUTH_PASSWORD}),
    State.AUTH_PASSWORD: frozenset({State.READY}),
    State.AUTH_BEARER: frozenset(
        {State.AUTH_BEARER_SHOWN, State.AUTH_BEARER_DISMISSED, State.READY}
    ),
    State.AUTH_BEARER_SHOWN: frozenset({State.AUTH_BEARER_DISMISSED, State.READY}),
    State.AUTH_BEARER_DISMISSED: frozenset(),
    State.READY: frozenset({State.RSET, State.MAIL, State.QUIT}),
    State.RSET: frozenset({State.MAIL}),
    State.MAIL: frozenset({State.RCPT, State.READY}),
    State.RCPT: frozenset({State.DATA, State.READY}),
    State.DATA: frozenset({State.BODY, State.NOBODY, State.READY}),
    State.BODY: frozenset({State.FINAL}),
    State.FINAL: frozenset({State.READY}),
    State.NOBODY: frozenset({State.READY}),
    State.QUIT: frozenset(),
    State.CLOSED: frozenset(),
}

#: The first digits of a reply that are valid in a state; anything else is out of step and ends the
#: session. The first digit decides, whatever the others are (RFC 5321 section 4.2.1): 350 to DATA
#: is as good as 354.
REPLIES: dict[State, frozenset[int]] = {
    State.GREETING: frozenset({2, 4, 5}),
    State.EHLO: frozenset({2, 4, 5}),
    State.HELO: frozenset({2, 4, 5}),
    State.STARTTLS: frozenset({2, 4, 5}),
    State.TLS: frozenset(),
    State.AUTH_PLAIN: frozenset({2, 3, 4, 5}),
    State.AUTH_PLAIN_ASKED: frozenset({2, 4, 5}),
    State.AUTH_LOGIN: frozenset({3, 4, 5}),
    State.AUTH_USERNAME: frozenset({3, 4, 5}),
    State.AUTH_PASSWORD: frozenset({2, 4, 5}),
    State.AUTH_BEARER: frozenset({2, 3, 4, 5}),
    State.AUTH_BEARER_SHOWN: frozenset({2, 3, 4, 5}),
    State.AUTH_BEARER_DISMISSED: frozenset({4, 5}),
    State.READY: frozenset(),
    State.RSET: frozenset({2}),
    State.MAIL: frozenset({2, 4, 5}),
    State.RCPT: frozenset({2, 4, 5}),
    State.DATA: frozenset({3, 4, 5}),
    State.BODY: frozenset({4, 5}),  # some refuse early, to spare both sides the rest
    State.FINAL: frozenset({2, 4, 5}),
    State.NOBODY: frozenset({2, 4, 5}),
    State.QUIT: frozenset({2, 4, 5}),
    State.CLOSED: frozenset(),
}

#: The stage of each state, for errors and deadlines.
STAGES: dict[State, Stage] = {
    State.GREETING: Stage.GREETING,
    State.EHLO: Stage.EHLO,
    State.HELO: Stage.EHLO,
    State.STARTTLS: Stage.STARTTLS,
    State.TLS: Stage.TLS,
    State.AUTH_PLAIN: Stage.AUTH,
    State.AUTH_PLAIN_ASKED: Stage.AUTH,
    State.AUTH_LOGIN: Stage.AUTH,
    State.AUTH_USERNAME: Stage.AUTH,
    State.AUTH_PASSWORD: Stage.AUTH,
    State.AUTH_BEARER: Stage.AUTH,
    State.AUTH_BEARER_SHOWN: Stage.AUTH,
    State.AUTH_BEARER_DISMISSED: Stage.AUTH,
    State.READY: Stage.MAIL,
    State.RSET: Stage.MAIL,
    State.MAIL: Stage.MAIL,
    State.RCPT: Stage.RCPT,
    State.DATA: Stage.DATA,
    State.BODY: Stage.END_OF_MESSAGE,
    State.FINAL: Stage.END_OF_MESSAGE,
    State.NOBODY: Stage.END_OF_MESSAGE,
    State.QUIT: Stage.END_OF_MESSAGE,
    State.CLOSED: Stage.END_OF_MESSAGE,
}
