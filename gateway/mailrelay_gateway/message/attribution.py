"""The fields that tell an upstream whose mail it gets (a tenant, a message stream). Pure.

A value that is not plain is no value: two tenants must never become one by what is left out or
replaced, and nothing of a tenant's choosing may get into a header.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

from mailrelay_gateway.contract.attribution import Attribution
from mailrelay_gateway.message.envelope import Identity, Message

#: What SES takes as the name of a tenant or a configuration set; message streams are shorter.
_VALUE = re.compile(r"[A-Za-z0-9_-]{1,64}")
_PLACES = re.compile(r"\{(namespace|sender)\}")


class Unattributable(Exception):
    """The value of a field is not plain."""


class Attributor:
    """Makes the fields of one upstream."""

    __slots__ = ("_attributions", "per_tenant")

    def __init__(self, attributions: Iterable[Attribution]) -> None:
        """`per_tenant`: a field depends on who sends."""
        self._attributions = tuple(attributions)
        self.per_tenant = any(_PLACES.search(one.template) for one in self._attributions)

    def attributed(self, message: Message) -> Message:
        """The message with its fields in front. Unattributable: there is a tenant for whom no
        field can be made.

        The gateway's own mail, and that of listeners without a login, is no tenant's: it gets only
        the fields that are the same for everybody.
        """
        if not self._attributions:
            return message
        lines = [
            f"{one.header}: {value}\r\n".encode("ascii")
            for one in self._attributions
            if (value := _value(one, message.identity)) is not None
        ]
        if not lines:
            return message
        fields = b"".join(lines)
        return replace(message, prelude=fields + message.prelude, size=message.size + len(fields))


def _value(attribution: Attribution, identity: Identity) -> str | None:
    if not identity.namespace and _PLACES.search(attribution.template):
        return None
    names = {"namespace": identity.namespace, "sender": identity.name}
    value = _PLACES.sub(lambda found: names[found[1]], attribution.template)
    if _VALUE.fullmatch(value) is None:
        raise Unattributable(
            f"{attribution.header} of MailSender {identity} would be {value[:100]!r}: it has 1 to"
            " 64 letters, digits, hyphens and underscores"
        )
    return value
