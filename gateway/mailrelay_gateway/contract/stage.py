"""The stages of an SMTP dialog, in order, for logs, metrics, couriers and the command line, on both
the server's and the client's side. Pure.

docs/logs.md says what each means; a test compares the two.
"""

from __future__ import annotations

from enum import StrEnum


class Stage(StrEnum):
    """How far a dialog got. Stages before MAIL concern the client or the upstream, from MAIL on the
    message. A later stage is greater.
    """

    TOKEN = "token"  # noqa: S105 - the access token of our login at an upstream
    RESOLVE = "resolve"
    CONNECT = "connect"
    TLS = "tls"
    GREETING = "greeting"
    EHLO = "ehlo"
    STARTTLS = "starttls"
    AUTH = "auth"
    SESSION = "session"  # between transactions, or at no particular command
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"
    END_OF_MESSAGE = "end-of-message"  # the final dot and its reply; Postfix's term

    @property
    def following(self) -> Stage:
        """The next stage; for the last one, itself."""
        return _IN_ORDER[min(_PLACES[self] + 1, len(_IN_ORDER) - 1)]

    # Strings would compare alphabetically.
    def __lt__(self, other: str) -> bool:
        return _PLACES[self] < _PLACES[other]

    def __le__(self, other: str) -> bool:
        return _PLACES[self] <= _PLACES[other]

    def __gt__(self, other: str) -> bool:
        return _PLACES[self] > _PLACES[other]

    def __ge__(self, other: str) -> bool:
        return _PLACES[self] >= _PLACES[other]


_IN_ORDER = tuple(Stage)
_PLACES: dict[str, int] = {stage: place for place, stage in enumerate(_IN_ORDER)}
