"""Parameters of MAIL and RCPT."""

from __future__ import annotations

import pytest

from mailrelay_gateway.smtp.dsn import RecipientDsn
from mailrelay_gateway.smtp.refusal import Problem
from mailrelay_gateway.smtp.server.parameters import (
    MailParameters,
    read_mail_parameters,
    read_rcpt_parameters,
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
        ("RET=ALL", 501),
        ("RET=FULL RET=FULL", 501),
        ("ENVID=" + "x" * 101, 501),
        ("ENVID=a=b", 501),
        ("MT-PRIORITY=1", 555),
    ],
)
def test_what_is_refused(text: str, code: int) -> None:
    problem = read_mail_parameters(text)
    assert isinstance(problem, Problem) and problem.reply.code == code


def test_values_keep_their_case() -> None:
    assert split_parameters("envid=QQ+3Dab X") == (("ENVID", "QQ+3Dab"), ("X", None))


def test_what_dsns_return_and_bear() -> None:
    assert read_mail_parameters("ret=full ENVID=QQ+3Dab") == MailParameters(
        ret="FULL", envid="QQ+3Dab"
    )
    assert read_mail_parameters("ENVID=" + "+41" * 100) == MailParameters(envid="+41" * 100)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("NOTIFY=never", RecipientDsn("NEVER")),
        ("NOTIFY=Failure,DELAY", RecipientDsn("FAILURE,DELAY")),
        ("ORCPT=rfc822;Bob+20B@x.org", RecipientDsn("", "rfc822;Bob+20B@x.org")),
        (
            "ORCPT=utf-8;j\\x{F6}rg@x.org NOTIFY=SUCCESS",
            RecipientDsn("SUCCESS", "utf-8;j\\x{F6}rg@x.org"),
        ),
    ],
)
def test_what_is_offered_at_rcpt(text: str, expected: RecipientDsn) -> None:
    assert read_rcpt_parameters(text) == expected


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("RRVS=x", 555),
        ("=", 501),
        ("NOTIFY", 501),
        ("NOTIFY=", 501),
        ("NOTIFY=NEVER,DELAY", 501),
        ("NOTIFY=SOMETIMES", 501),
        ("ORCPT=rfc822", 501),
        ("ORCPT=rfc822;", 501),
        ("ORCPT=rfc822;a+b", 501),
        ("ORCPT=;a@b", 501),
        ("ORCPT=rfc822;" + "a" * 501, 501),
    ],
)
def test_what_is_refused_at_rcpt(text: str, code: int) -> None:
    problem = read_rcpt_parameters(text)
    assert isinstance(problem, Problem) and problem.reply.code == code
