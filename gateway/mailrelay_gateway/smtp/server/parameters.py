"""Parameters of MAIL and RCPT (RFC 5321 section 4.1.2, esmtp-param), parsed and checked. Pure.

We offer SIZE (RFC 1870), 8BITMIME (RFC 6152), SMTPUTF8 (RFC 6531), DSN (RFC 3461) and AUTH (RFC
4954 section 5). What we do not offer is refused with 555, never ignored: a client that asks for
something must learn that it will not get it. Values keep their case (xtext).
"""

from __future__ import annotations

import re

from mailrelay_gateway.message_value import message_value
from mailrelay_gateway.reasons import Reason
from mailrelay_gateway.smtp.dsn import MAX_ENVID, RecipientDsn, is_envid, is_orcpt, read_notify
from mailrelay_gateway.smtp.refusal import Problem, refuse

# RFC 5321:  esmtp-keyword = (ALPHA / DIGIT) *(ALPHA / DIGIT / "-");  esmtp-value = 1*(%d33-60 /
# %d62-126)
_PARAMETER = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([\x21-\x3c\x3e-\x7e]+))?")
# RFC 1870 section 3: up to 20 digits.
_SIZE = re.compile(r"[0-9]{1,20}")


@message_value(frozen=True, slots=True)
class MailParameters:
    """The parameters of MAIL: the size in octets (0: not given), whether addresses and header may
    be UTF-8, and what DSNs are to return and contain.
    """

    size: int = 0
    smtputf8: bool = False
    ret: str = ""
    envid: str = ""


NO_PARAMETERS = MailParameters()


def split_parameters(text: str) -> tuple[tuple[str, str | None], ...] | None:
    """`SIZE=10 FOO` as (("SIZE", "10"), ("FOO", None)): keywords in upper case. None: it does not
    match the grammar.
    """
    found = []
    for word in text.split():
        match = _PARAMETER.fullmatch(word)
        if match is None:
            return None
        found.append((match[1].upper(), match[2]))
    return tuple(found)


def read_mail_parameters(text: str) -> MailParameters | Problem:
    """The parameters of MAIL, or why they are refused: 501 if malformed, 555 if not offered (RFC
    5321, 4.1.1.11).
    """
    if not text:
        return NO_PARAMETERS
    parameters = split_parameters(text)
    if parameters is None or len({name for name, _ in parameters}) != len(parameters):
        return _broken("MAIL parameters are KEYWORD or KEYWORD=VALUE, each once")
    size = 0
    smtputf8 = False
    ret = envid = ""
    for name, value in parameters:
        if name == "SIZE":
            if value is None or not _SIZE.fullmatch(value):
                return _broken("SIZE is a number of octets, such as SIZE=1024")
            size = int(value)
        elif name == "BODY":
            if value is None or value.upper() not in ("7BIT", "8BITMIME"):
                return refuse(Reason.UNSUPPORTED_PARAMETER, "body")
        elif name == "SMTPUTF8":
            if value is not None:
                return refuse(Reason.UNSUPPORTED_PARAMETER, "smtputf8")
            smtputf8 = True
        elif name == "RET":
            ret = (value or "").upper()
            if ret not in ("FULL", "HDRS"):
                return _broken("RET is FULL or HDRS")
        elif name == "ENVID":
            envid = value or ""
            if not is_envid(envid):
                return _broken(f"ENVID is xtext of at most {MAX_ENVID} characters")
        elif name == "AUTH":
            # RFC 4954 section 5: who submitted it first. No client is trusted with that: it is
            # parsed and ignored.
            if value is None:
                return _broken("AUTH needs a value, such as AUTH=<>")
        else:
            return refuse(Reason.UNSUPPORTED_PARAMETER, verb="MAIL", names=name)
    return MailParameters(size, smtputf8, ret, envid)


def read_rcpt_parameters(text: str) -> RecipientDsn | Problem:
    """The parameters of RCPT, or why they are refused."""
    parameters = split_parameters(text)
    if parameters is None or len({name for name, _ in parameters}) != len(parameters):
        return _broken("RCPT parameters are KEYWORD or KEYWORD=VALUE, each once")
    notify: str | None = ""
    orcpt = ""
    for name, value in parameters:
        if name == "NOTIFY":
            notify = read_notify(value or "")
            if notify is None:
                return _broken("NOTIFY is NEVER, or any of SUCCESS, FAILURE and DELAY with commas")
        elif name == "ORCPT":
            orcpt = value or ""
            if not is_orcpt(orcpt):
                return _broken("ORCPT is an address type and xtext, such as rfc822;a@example.com")
        else:
            return refuse(Reason.UNSUPPORTED_PARAMETER, verb="RCPT", names=name)
    return RecipientDsn(notify or "", orcpt)


def _broken(sentence: str) -> Problem:
    return refuse(Reason.SYNTAX, remedy=sentence)
