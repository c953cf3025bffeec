"""Parameters of MAIL and RCPT."""

from __future__ import annotations

import pytest

from mailrelay_gateway.smtp.refusal import Problem
from mailrelay_gateway.smtp.server.parameters import (
    MailParameters,
    check_rcpt_parameters,
    read_mail_parameters,
    split_parameters,
)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("", 0),
        ("SIZE=10", 10),
        ("size=00010 BODY=7bit", 10),
        ("AUTH=<>", 0),
        ("AUTH=e+3Dmc2@example.com BODY=8BITMIME", 0),
    ],
)
def test_what_is_offered(text: str, size: int) -> None:
    assert read_mail_parameters(text) == MailParameters(size)


def test_smtputf8() -> None:
    assert read_mail_parameters("BODY=8BITMIME smtputf8") == MailParameters(smtputf8=True)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("SIZE", 501),
        ("SIZE=", 501),
        ("SIZE=-1", 501),
        ("SIZE=" + "9" * 21, 501),
        ("SIZE=1 SIZE=1", 501),
        ("-X", 501),
        ("AUTH", 501),
        ("BODY=BINARYMIME", 555),
        ("BODY", 555),
        ("SMTPUTF8=1", 501),
        ("RET=FULL", 555),
        ("MT-PRIORITY=1", 555),
    ],
)
def test_what_is_refused(text: str, code: int) -> None:
    problem = read_mail_parameters(text)
    assert isinstance(problem, Problem) and problem.reply.code == code


def test_values_keep_their_case() -> None:
    assert split_parameters("envid=QQ+3Dab X") == (("ENVID", "QQ+3Dab"), ("X", None))


def test_nothing_is_offered_at_rcpt() -> None:
    assert check_rcpt_parameters("") is None
    for text, code in (("NOTIFY=NEVER", 555), ("=", 501)):
        problem = check_rcpt_parameters(text)
        assert problem is not None and problem.reply.code == code
