"""Command lines, the order of commands, and the steps of a login."""

from __future__ import annotations

from base64 import b64encode

import pytest

from mailrelay_gateway.smtp.refusal import Problem
from mailrelay_gateway.smtp.server import sasl
from mailrelay_gateway.smtp.server.commands import (
    MAX_AUTH_LINE,
    MAX_LINE,
    MOVES,
    IllegalMove,
    Move,
    State,
    is_foreign,
    next_state,
    read_bdat,
    read_helo,
    sequence_problem,
    split_line,
)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"NOOP\r\n", (b"NOOP", b"")),
        (b"mail  FROM:<a@b> \r\n", (b"MAIL", b"FROM:<a@b>")),
        (b"\r\n", (b"", b"")),
        (b"X" * (MAX_LINE - 2) + b"\r\n", (b"X" * (MAX_LINE - 2), b"")),
        (b"AUTH " + b"x" * 9000 + b"\r\n", (b"AUTH", b"x" * 9000)),
    ],
)
def test_lines(line: bytes, expected: tuple[bytes, bytes]) -> None:
    assert split_line(line) == expected


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"NOOP\n", "Syntax"),
        (b"\n", "Syntax"),
        (b"NO\rOP\r\n", "Syntax"),
        (b"NOOP\r\r\n", "Syntax"),
        (b"NOOP " + b"x" * MAX_LINE + b"\r\n", "LineTooLong"),
        (b"AUTH " + b"x" * MAX_AUTH_LINE + b"\r\n", "LineTooLong"),
    ],
)
def test_lines_that_are_refused(line: bytes, reason: str) -> None:
    problem = split_line(line)
    assert isinstance(problem, Problem) and problem.reason == reason


def test_other_protocols_are_told_apart() -> None:
    for line in (b"GET / HTTP/1.1\r\n", b"post /\r\n", b"PRI * HTTP/2.0\r\n", b"\x16\x03\x01\n"):
        assert is_foreign(line)
    for line in (b"HELP\r\n", b"\r\n", b"EHLO get\r\n", b"GETTING\r\n"):
        assert not is_foreign(line)


def test_every_state_and_move_is_legal_by_the_table_or_refused() -> None:
    for state in State:
        for move in Move:
            problem = sequence_problem(state, move)
            if move in MOVES[state]:
                assert problem is None
                assert next_state(state, move) in State
            else:
                assert problem is not None and problem.reply.code == 503
                with pytest.raises(IllegalMove):
                    next_state(state, move)


def test_no_message_without_sender_and_recipient() -> None:
    """Every path of the table to content leads through MAIL and RCPT."""
    for state in State:
        if Move.DATA in MOVES[state] or Move.CHUNK in MOVES[state]:
            assert state in (State.RECIPIENTS, State.CHUNKS)
    into = {s for s in State for move, to in MOVES[s].items() if to is State.RECIPIENTS}
    assert into == {State.MAIL, State.RECIPIENTS}
    assert {s for s in State for to in MOVES[s].values() if to is State.CHUNKS} == {
        State.RECIPIENTS,
        State.CHUNKS,
    }


@pytest.mark.parametrize(
    ("argument", "expected"),
    [(b"10", (10, False)), (b"0 LAST", (0, True)), (b"5  last", (5, True))],
)
def test_bdat(argument: bytes, expected: tuple[int, bool]) -> None:
    assert read_bdat(argument) == expected


@pytest.mark.parametrize(
    "argument", [b"", b"x", b"-1", b"1 FIRST", b"1LAST", b"9" * 21, b"1 LAST 2"]
)
def test_bdat_that_is_refused(argument: bytes) -> None:
    assert isinstance(read_bdat(argument), Problem)


@pytest.mark.parametrize(
    ("argument", "name"),
    [
        (b"client.example.org", "client.example.org"),
        (b"[IPv6:::1]", "[IPv6:::1]"),
        (b"my_host and more", "my_host"),
        (b"bad\x00host", "unknown"),
        (b"x" * 300, "unknown"),
        (b"a)\tby(evil", "unknown"),
    ],
)
def test_helo_names_fit_a_trace_header(argument: bytes, name: str) -> None:
    assert read_helo(argument) == name


def encoded(text: str) -> bytes:
    return b64encode(text.encode())


def test_plain_in_one_step_and_in_two() -> None:
    expected = sasl.Credentials("PLAIN", "user", "pass")
    assert sasl.begin(b"PLAIN " + encoded("\0user\0pass")) == expected
    assert sasl.begin(b"plain " + encoded("user\0user\0pass")) == expected
    first = sasl.begin(b"PLAIN")
    assert isinstance(first, sasl.Challenge) and first.prompt == ""
    assert sasl.advance(first.exchange, encoded("\0user\0pass")) == expected


def test_login_with_both_prompts_and_with_the_username_inline() -> None:
    expected = sasl.Credentials("LOGIN", "üser", "pass")
    first = sasl.begin(b"LOGIN")
    assert isinstance(first, sasl.Challenge)
    for challenge in (
        sasl.advance(first.exchange, encoded("üser")),
        sasl.begin(b"Login " + encoded("üser")),
    ):
        assert isinstance(challenge, sasl.Challenge)
        assert sasl.advance(challenge.exchange, encoded("pass")) == expected


@pytest.mark.parametrize(
    ("argument", "code"),
    [
        (b"", 501),
        (b"PLAIN a b", 501),
        (b"CRAM-MD5", 504),
        (b"PLAIN *", 501),
        (b"PLAIN %%%", 501),
        (b"PLAIN " + b64encode(b"\0\xff\0x"), 501),
        (b"PLAIN " + encoded("user pass"), 501),
        (b"PLAIN " + encoded("\0\0pass"), 501),
        (b"PLAIN " + encoded("\0user\0pa\0ss"), 501),
        (b"PLAIN " + encoded("other\0user\0pass"), 535),
        (b"PLAIN " + encoded("\0user\0" + "x" * 9300), 501),
    ],
)
def test_logins_that_are_refused(argument: bytes, code: int) -> None:
    problem = sasl.begin(argument)
    assert isinstance(problem, Problem) and problem.reply.code == code


def test_no_password_in_a_repr() -> None:
    assert "secret" not in repr(sasl.Credentials("PLAIN", "user", "secret"))
