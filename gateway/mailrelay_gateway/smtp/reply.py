"""An SMTP reply as a value (RFC 5321 section 4.2, RFC 3463): made here, sent and received
elsewhere. Pure.

The same class serves what we answer to clients and what upstreams answer to us.
"""

from __future__ import annotations

from mailrelay_gateway.message_value import message_value

#: RFC 5321 section 4.5.3.1.5: a reply line has at most 512 octets, CRLF included.
MAX_REPLY_LINE = 512


@message_value(frozen=True, slots=True)
class Reply:
    """One reply: `code` (200 to 599), `enhanced` status code ("" when there is none), `text`
    (lines by "\\n").
    """

    code: int
    enhanced: str
    text: str

    @property
    def permanent(self) -> bool:
        """Whether the code is 5xx."""
        return self.code >= 500

    def encode(self) -> bytes:
        """The reply as sent, every line with the code and the enhanced code, the last without
        the hyphen.
        """
        prefix = f"{self.enhanced} " if self.enhanced else ""
        room = MAX_REPLY_LINE - len(prefix) - 6
        lines = self.text.split("\n")
        last = len(lines) - 1
        return "".join(
            f"{self.code}{' ' if n == last else '-'}{prefix}{line[:room]}\r\n"
            for n, line in enumerate(lines)
        ).encode("ascii", "replace")

    def __str__(self) -> str:
        """One line for logs and status: `451 4.3.0 text`."""
        text = self.text.replace("\n", " ")
        return f"{self.code} {self.enhanced} {text}" if self.enhanced else f"{self.code} {text}"
