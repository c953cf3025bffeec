"""What is taken of aiosmtpd is what docs/adr/0002 says."""

from __future__ import annotations

from aiosmtpd.smtp import SMTP

from mailrelay_gateway.intake.smtp.session import Session


def test_three_methods_are_overridden_and_the_others_not_reached() -> None:
    methods = {name for name, value in vars(SMTP).items() if callable(value)}
    methods |= {name for name, value in vars(SMTP).items() if isinstance(value, property)}
    methods.discard("__init__")
    line = Session.__mro__
    ours = {name for each in line[: line.index(SMTP)] for name in vars(each)}
    assert methods & ours == {"connection_made", "connection_lost", "eof_received"}
    assert len(methods - ours) == 37
