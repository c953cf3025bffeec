"""What each client address and each sender is using now, so that none uses everything: one account
for each, in a bounded number.

An account that is forgotten costs its owner's fairness and nothing else: its holders return what
they have to it, and a new one begins at zero.
"""

from __future__ import annotations

from collections import OrderedDict

#: Accounts that are kept. More clients and senders than that at once could not be served anyway.
MAX_ACCOUNTS = 10_000
#: Log lines about refusals that one client may cause at once, and then per second. An honest client
#: that is refused in each of its sessions stays far below.
LINES_AT_ONCE = 200
LINES_PER_SECOND = 5.0


class Account:
    """What one client or sender is using."""

    __slots__ = ("_lines", "_lines_at", "octets", "unlogged")

    def __init__(self) -> None:
        """Nothing yet."""
        self.octets = 0  # of messages being received
        self.unlogged = 0  # refusals since the last line of the log about one
        self._lines = float(LINES_AT_ONCE)
        self._lines_at = 0.0

    def may_log(self, now: float) -> bool:
        """Whether a refusal gets its own line; `now` in seconds."""
        gained = (now - self._lines_at) * LINES_PER_SECOND
        self._lines = min(float(LINES_AT_ONCE), self._lines + gained)
        self._lines_at = now
        if self._lines < 1.0:
            return False
        self._lines -= 1.0
        return True

    @property
    def idle(self) -> bool:
        """Whether nothing is lost if it is forgotten."""
        return self.octets == 0 and self.unlogged == 0


class Ledger:
    """The accounts by key, the least recently used first."""

    __slots__ = ("_accounts", "_limit")

    def __init__(self, limit: int = MAX_ACCOUNTS) -> None:
        """Keep at most `limit` accounts."""
        self._accounts: OrderedDict[str, Account] = OrderedDict()
        self._limit = limit

    def __len__(self) -> int:
        """How many accounts there are."""
        return len(self._accounts)

    def of(self, key: str) -> Account:
        """The account of a client's address or a sender's UID."""
        accounts = self._accounts
        account = accounts.get(key)
        if account is not None:
            accounts.move_to_end(key)
            return account
        if len(accounts) >= self._limit:
            self._forget_one()
        account = accounts[key] = Account()
        return account

    def muted(self) -> list[tuple[str, Account]]:
        """Those with refusals that were not logged yet."""
        return [(key, account) for key, account in self._accounts.items() if account.unlogged]

    def _forget_one(self) -> None:
        """Forget the least recently used idle account, if there is one."""
        for _ in range(8):  # bounded work; several in use in a row mean that most are
            key, account = self._accounts.popitem(last=False)
            if account.idle:
                return
            self._accounts[key] = account
        self._accounts.popitem(last=False)
