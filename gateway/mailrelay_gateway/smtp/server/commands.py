"""Command lines: octets to verb and argument, and the order in which verbs may come, as one table.
Pure.

Rule 1: a line ends in CRLF and nothing else; a bare LF is an error, not an end (SMTP smuggling
        begins there).
Rule 2: every legal move of a session is in MOVES; an illegal one raises and changes nothing.
"""

from __future__ import annotations

import re
from enum import StrEnum

from mailrelay_gateway.reasons import Reason
from mailrelay_gateway.smtp.address import split_path
from mailrelay_gateway.smtp.refusal import Problem, refuse

#: Octets of a command line, CRLF included. RFC 5321 section 4.5.3.1.4 says 512 plus what extensions
#: add; Postfix 2048.
MAX_LINE = 2048
#: RFC 4954 section 4: what an AUTH line, or an answer to a challenge, may need.
MAX_AUTH_LINE = 12288

#: First words of other protocols (HTTP/1, HTTP/2, a TLS hello on a plain port): for example from a
#: browser that was tricked into connecting.
FOREIGN_VERBS = frozenset(
    b"GET POST PUT HEAD DELETE OPTIONS CONNECT TRACE PATCH PRI HOST: USER-AGENT:".split()
)

# RFC 3030 section 2: "BDAT" SP chunk-size [SP "LAST"]
_BDAT = re.compile(rb"([0-9]{1,20})(?:[ \t]+(LAST))?[ \t]*", re.IGNORECASE)
# RFC 5321 section 4.1.1.3: the one recipient without a domain, in any case
_POSTMASTER = re.compile(rb"[ \t]*<postmaster>(?:[ \t]+([!-~][ -~\t]*))?[ \t]*", re.IGNORECASE)
# What is allowed in a trace header as the client's name (RFC 5321, 4.1.1.1), also "_", which is not
# in the grammar.
_HELO = re.compile(rb"[A-Za-z0-9._:\[\]-]{1,255}")


def split_line(line: bytes) -> tuple[bytes, bytes] | Problem:
    """A line up to its LF as (VERB in upper case, argument without outer blanks)."""
    end = len(line) - 2
    if (
        end < 0 or line.find(b"\r") != end
    ):  # the first CR is the last but one octet, and the last is LF
        return refuse(Reason.SYNTAX, "line")
    verb, _, argument = line[:end].partition(b" ")
    verb = verb.upper()
    if end > MAX_LINE and (end > MAX_AUTH_LINE or verb != b"AUTH"):
        return line_too_long()
    return verb, argument.strip()


def is_endless(line: bytes) -> bool:
    """Whether a line is longer than any may be, with or without its end: the session ends."""
    return len(line) > MAX_AUTH_LINE + 2


def line_too_long() -> Problem:
    """The refusal of a line beyond MAX_LINE (AUTH: MAX_AUTH_LINE)."""
    return refuse(Reason.LINE_TOO_LONG, octets=MAX_LINE)


def is_foreign(line: bytes) -> bool:
    """Whether a line is the beginning of another protocol, so that the connection must be
    closed.
    """
    words = line.split(None, 1)
    return line[:2] == b"\x16\x03" or (bool(words) and words[0].upper() in FOREIGN_VERBS)


def read_mail(argument: bytes) -> tuple[str, str] | Problem:
    """The argument of MAIL as (reverse-path, parameters); "" is the null sender."""
    if argument[:5].upper() != b"FROM:":
        return refuse(Reason.SYNTAX, remedy="Write MAIL FROM:<address>")
    path = split_path(argument[5:])
    if path is None:
        return refuse(Reason.SYNTAX, "sender")
    return path


def read_rcpt(argument: bytes, hostname: str) -> tuple[str, str] | Problem:
    """The argument of RCPT as (forward-path, parameters); a recipient always has a domain here,
    postmaster without one gets ours.
    """
    if argument[:3].upper() != b"TO:":
        return refuse(Reason.SYNTAX, remedy="Write RCPT TO:<address>")
    path = split_path(argument[3:])
    if path is None or not path[0]:
        postmaster = _POSTMASTER.fullmatch(argument[3:])
        if postmaster is not None:
            return f"postmaster@{hostname}", (postmaster[1] or b"").decode("ascii")
        return refuse(Reason.SYNTAX, "recipient")
    return path


def read_bdat(argument: bytes) -> tuple[int, bool] | Problem:
    """The argument of BDAT as (octets, whether it is the last chunk)."""
    match = _BDAT.fullmatch(argument)
    if match is None:
        return refuse(Reason.SYNTAX, remedy="Write BDAT SIZE or BDAT SIZE LAST")
    return int(match[1]), match[2] is not None


def read_helo(argument: bytes) -> str | Problem:
    """The client's name: the first word, printable; what is not allowed in a trace header becomes
    `unknown`.
    """
    words = argument.split(None, 1)
    if not words:
        return refuse(Reason.SYNTAX, remedy="Argument required, such as EHLO host.example.com")
    return words[0].decode("ascii") if _HELO.fullmatch(words[0]) else "unknown"


class State(StrEnum):
    """Where a session stands."""

    START = "start"  # no EHLO yet, or again after STARTTLS (RFC 3207 section 4.2)
    READY = "ready"  # no transaction
    MAIL = "mail"  # a sender, no recipient yet
    RECIPIENTS = "recipients"  # at least one recipient
    CHUNKS = "chunks"  # at least one BDAT, not the last
    REFUSED_CHUNKS = (
        "refused chunks"  # a BDAT was refused: the client's further ones are read and dropped
    )


class Move(StrEnum):
    """What changes a session's state: a successful verb, or the end of a message, stored or not."""

    HELLO = "EHLO"
    STARTTLS = "STARTTLS"
    AUTH = "AUTH"
    MAIL = "MAIL"
    RCPT = "RCPT"
    DATA = "DATA"
    CHUNK = "BDAT"
    REFUSED_CHUNK = "refused BDAT"
    RESET = "RSET"
    END = "end"


#: Every legal move. EHLO and RSET are legal wherever a command is (RFC 5321 sections 4.1.4,
#: 4.1.1.5).
MOVES: dict[State, dict[Move, State]] = {
    State.START: {
        Move.HELLO: State.READY,
        Move.RESET: State.START,
        Move.REFUSED_CHUNK: State.START,
    },
    State.READY: {
        Move.HELLO: State.READY,
        Move.STARTTLS: State.START,
        Move.AUTH: State.READY,
        Move.MAIL: State.MAIL,
        Move.RESET: State.READY,
        Move.END: State.READY,
        Move.REFUSED_CHUNK: State.READY,
    },
    State.MAIL: {
        Move.HELLO: State.READY,
        Move.RCPT: State.RECIPIENTS,
        Move.RESET: State.READY,
        Move.REFUSED_CHUNK: State.REFUSED_CHUNKS,
    },
    State.RECIPIENTS: {
        Move.HELLO: State.READY,
        Move.RCPT: State.RECIPIENTS,
        Move.DATA: State.RECIPIENTS,
        Move.CHUNK: State.CHUNKS,
        Move.REFUSED_CHUNK: State.REFUSED_CHUNKS,
        Move.RESET: State.READY,
        Move.END: State.READY,
    },
    State.CHUNKS: {
        Move.HELLO: State.READY,
        Move.CHUNK: State.CHUNKS,
        Move.REFUSED_CHUNK: State.REFUSED_CHUNKS,
        Move.RESET: State.READY,
        Move.END: State.READY,
    },
    State.REFUSED_CHUNKS: {
        Move.HELLO: State.READY,
        # RFC 3030 section 2: after a refused chunk the client may begin again with RSET; we accept
        # MAIL as well, since the transaction is already gone.
        Move.MAIL: State.MAIL,
        Move.REFUSED_CHUNK: State.REFUSED_CHUNKS,
        Move.RESET: State.READY,
    },
}

_HINTS: dict[State, str] = {
    State.START: "Send EHLO first",
    State.READY: "Send MAIL first",
    State.MAIL: "Send RCPT first: no recipient was accepted yet",
    State.RECIPIENTS: "A transaction is open: RSET ends it",
    State.CHUNKS: "A message is being sent with BDAT: RSET ends it",
    State.REFUSED_CHUNKS: "The message was refused: send RSET first",
}


class IllegalMove(Exception):
    """A move that is not in MOVES: an error of ours, since `sequence_problem` is called first."""


def next_state(state: State, move: Move) -> State:
    """The state after `move`; IllegalMove if it is not legal in `state`."""
    try:
        return MOVES[state][move]
    except KeyError:
        raise IllegalMove(f"{move.value} in state {state.value}") from None


def sequence_problem(state: State, move: Move) -> Problem | None:
    """None when `move` is legal in `state`; otherwise 503, with what has to come first."""
    if move in MOVES[state]:
        return None
    nested = move is Move.MAIL and state is State.MAIL
    hint = "A transaction is open: RSET ends it" if nested else _HINTS[state]
    return refuse(Reason.BAD_SEQUENCE, move=move.value, hint=hint)
