"""Parses a server's replies (RFC 5321 section 4.2). Pure; knows no commands and no session.

Octets go in as they arrive, whole replies come out. Every line and every reply is bounded: a server
that sends more is not a mail server, and we stop reading. The server's text is kept verbatim,
except for control characters.
"""

from __future__ import annotations

import re
from functools import lru_cache

from mailrelay_gateway.smtp.reply import Reply

#: Octets of one line. RFC 5321 section 4.5.3.1.5 says 512; servers add URLs and explanations.
#: Postfix accepts 2048.
MAX_LINE = 4096
#: Lines of one reply. The longest EHLO replies in practice have about 25, some servers greet with a
#: page of terms. What is kept of them is bounded by MAX_TEXT; the deadline for a whole reply bounds
#: the time.
MAX_LINES = 10_000
#: Characters kept of a reply's text: it goes into logs, notices and conditions. An EHLO reply has
#: less than 1000.
MAX_TEXT = 8192

_ENHANCED = re.compile(r"([245]\.[0-9]{1,3}\.[0-9]{1,3})(?: +|$)")
_LF = b"\n"


class ReplyError(ValueError):
    """The server sent something that is not an SMTP reply; the connection is out of step and must
    be closed.

    `before` contains the whole replies that the same octets completed before the defect: they are
    valid.
    """

    def __init__(self, sentence: str) -> None:
        """Describe what was received."""
        super().__init__(sentence)
        self.before: list[Reply] = []


class ReplyReader:
    """Collects octets of one connection into replies. After a ReplyError it must not be used
    again.
    """

    __slots__ = ("_count", "_kept", "_rest", "_texts")

    def __init__(self) -> None:
        """Start with nothing received."""
        self._rest = b""  # an unfinished line, at most MAX_LINE octets
        self._count = 0  # the earlier lines of an unfinished reply
        self._texts: list[bytes] = []  # those kept, slightly more than MAX_TEXT octets
        self._kept = 0  # octets in them

    @property
    def empty(self) -> bool:
        """Whether there is no unfinished reply: the server's last octet ended one."""
        return not self._rest and not self._count

    def receive(self, data: bytes) -> list[Reply]:
        """Process octets; return the replies that they complete, in order. ReplyError: neither now
        nor later.
        """
        lines = (self._rest + data if self._rest else data).split(_LF)
        self._rest = lines.pop()
        replies: list[Reply] = []
        try:
            for line in lines:
                if line[3:4] == b"-" or self._count:
                    reply = self._continued(line)
                    if reply is None:
                        continue
                else:
                    reply = _single(line)
                replies.append(reply)
            if len(self._rest) > MAX_LINE:
                raise ReplyError(f"a reply line has more than {MAX_LINE} octets")
        except ReplyError as error:
            error.before = replies
            raise
        return replies

    def _continued(self, line: bytes) -> Reply | None:
        """One line of a reply of several; the reply if it is the last."""
        line = _checked(line)
        if self._count >= MAX_LINES:
            raise ReplyError(f"a reply has more than {MAX_LINES} lines")
        self._count += 1
        if self._kept <= MAX_TEXT:
            self._texts.append(line)
            self._kept += len(line) - 3  # the text and a line end
        if line[3:4] == b"-":
            return None
        texts, self._texts, self._count, self._kept = self._texts, [], 0, 0
        return _several(int(line[:3]), texts)


@lru_cache(maxsize=256)
def _single(line: bytes) -> Reply:
    """A reply of one line. Most are one of a few (`250 2.1.0 Ok`), so they are cached."""
    line = _checked(line)
    code = int(line[:3])
    enhanced, text = _divide(code, line[4:])
    return Reply(code, enhanced, text)


def _several(code: int, lines: list[bytes]) -> Reply:
    """A reply of several lines: the last one's `code` counts (RFC 5321 section 4.2.1)."""
    enhanced = ""
    texts = []
    for line in lines:
        found, text = _divide(code, line[4:])
        enhanced = found or enhanced
        texts.append(text)
    return Reply(code, enhanced, "\n".join(texts)[:MAX_TEXT])


def _checked(line: bytes) -> bytes:
    """The line without its CR, if it begins like a reply: three digits from 200 to 599, then space,
    hyphen or end.
    """
    if len(line) > MAX_LINE:
        raise ReplyError(f"a reply line has more than {MAX_LINE} octets")
    line = line.removesuffix(b"\r")
    if not line[:3].isdigit() or len(line) < 3 or not b"200" <= line[:3] <= b"599":
        raise ReplyError(f"not an SMTP reply: {_text(line[:80])!r}")
    if line[3:4] not in (b" ", b"-", b""):
        raise ReplyError(f"no space after the reply code: {_text(line[:80])!r}")
    return line


def _divide(code: int, octets: bytes) -> tuple[str, str]:
    """Enhanced status code (RFC 3463) and text. A code of another class than the reply's is just
    text.
    """
    text = _text(octets)
    match = _ENHANCED.match(text)
    if match is None or int(text[0]) != code // 100:
        return "", text
    return match[1], text[match.end() :]


def _text(octets: bytes) -> str:
    """UTF-8 (RFC 6531 section 3.7.4.2) as text that is safe in logs and notifications."""
    text = octets.decode("utf-8", "backslashreplace")
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else " " if c == "\t" else "?" for c in text)
