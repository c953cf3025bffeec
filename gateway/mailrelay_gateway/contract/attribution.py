"""How an upstream is told whose mail it gets, and which fields of clients it must not see: the
contract's models. Pure.
"""

from __future__ import annotations

from mailrelay_gateway.contract.part import Part


class Attribution(Part):
    """A field that each message to an upstream is given. `{namespace}` and `{sender}` in `template`
    stand for the MailSender's.
    """

    header: str
    template: str
