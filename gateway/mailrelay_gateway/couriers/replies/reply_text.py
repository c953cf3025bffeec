"""Normalizes the text of a reply: removes everything that a sender could have put there, and
extracts times. Pure.

Servers echo addresses, ids and links. A recipient `"relay access denied"@example.net` must not hold
an upstream, and the same refusal of a hundred messages must be recognized as one.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from mailrelay_gateway.smtp.reply import Reply

#: Characters of a reply that rules match: enough for any provider's text, and a bound on the cost
#: of a pattern.
MAX_SPOKEN = 600
#: Characters of a signature; later differences are ignored.
MAX_SIGNATURE = 200
#: A provider's "try again in" is accepted up to a day; anything longer is an error.
LONGEST = 24 * 3600.0

#: `<a@b>`, `<"a b"@c>`, and `"a b"@c` without brackets. Words with an @ and links are removed
#: separately.
_ECHOED = re.compile(r'<[^<>]*>|"[^"]*"@\S*')
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"|\[[^\]]*\]")
_DIGIT = re.compile(r"\d")
#: A longer word is an id.
LONGEST_WORD = 24

_SECONDS = re.compile(
    r"(?:try|retry|again|wait|resume|come back|greylisted|throttled|blocked|later)\D{0,40}?"
    r"(?<![\d.:/-])(\d{1,7})\s*(s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?)\b"
)
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}
_CLOCK = r"\d\d:\d\d(?::\d\d)?"
#: `after 2026-05-01 10:00:00 UTC`, `until 2026-05-01T10:00Z`, `after Fri, 01 May 2026 10:00 GMT`.
_AFTER = re.compile(
    rf"(?:after|until|at) (?:(?P<day>\d{{4}}-\d\d-\d\d)[t ](?P<clock>{_CLOCK})"
    r" ?(?P<zone>z|utc|gmt|[+-]\d\d:?\d\d)"
    rf"|(?P<mail>(?:\w{{3}},? )?\d{{1,2}} \w{{3}} \d{{4}} {_CLOCK} ?(?:gmt|utc|[+-]\d{{4}})))"
)


def spoken(reply: Reply) -> str:
    """The text in lower case on one line, without addresses and links."""
    words = _ECHOED.sub(" ", reply.text[:MAX_SPOKEN]).lower().split()
    return " ".join(word for word in words if "@" not in word and "://" not in word)


def signature(reply: Reply) -> str:
    """The common part of the same refusal of different messages: code, enhanced code and words,
    without addresses, ids and digits.
    """
    words = _QUOTED.sub("#", spoken(reply)).split()
    plain = ("#" if len(w) > LONGEST_WORD or _DIGIT.search(w) else w for w in words)
    return f"{reply.code} {reply.enhanced} {' '.join(plain)}"[:MAX_SIGNATURE]


def named_seconds(text: str) -> float | None:
    """The seconds in "try again in 92 seconds"; None if there are none, or more than a day."""
    found = _SECONDS.search(text)
    if found is None:
        return None
    seconds = int(found[1]) * _UNITS[found[2][0]]
    return seconds if 0 < seconds <= LONGEST else None


def named_moment(text: str) -> float | None:
    """The Unix time in "try again after 2026-05-01 10:00:00 UTC"; None if there is none. A time
    without a zone is ignored.
    """
    found = _AFTER.search(text)
    if found is None:
        return None
    try:
        if found["day"]:
            zone = found["zone"]
            offset = "+00:00" if zone in ("z", "utc", "gmt") else zone
            moment = datetime.fromisoformat(f"{found['day']}T{found['clock']}{offset}")
        else:
            moment = parsedate_to_datetime(found["mail"])
        return moment.astimezone(UTC).timestamp()
    except (ValueError, OverflowError):  # no such day, or one that no clock can show
        return None
