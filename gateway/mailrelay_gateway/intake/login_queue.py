"""Logins that wait for a thread: clients take turns, and so do the usernames of one client, so that
an attacker who guesses waits for their own guesses. Pure: no clock, no thread.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Generic, TypeVar

#: Logins that may wait. A thread does about 12 a second at N = 2^15, and a client waits a minute.
MAX_WAITING = 256

Job = TypeVar("Job")


class LoginQueue(Generic[Job]):
    """Jobs by client's address and username."""

    __slots__ = ("_clients", "_counts", "_limit", "_size")

    def __init__(self, limit: int = MAX_WAITING) -> None:
        """At most `limit` jobs wait."""
        self._clients: OrderedDict[str, OrderedDict[str, deque[Job]]] = OrderedDict()
        self._counts: dict[str, int] = {}
        self._size = 0
        self._limit = limit

    def __len__(self) -> int:
        """How many wait."""
        return self._size

    def add(self, client: str, username: str, job: Job) -> Job | None:
        """Add a job. If there are too many, the last one of the client with the most is removed and
        returned, perhaps this one.
        """
        displaced: Job | None = None
        if self._size >= self._limit:
            most = max(self._counts, key=self._counts.__getitem__)
            if self._counts[most] <= self._counts.get(client, 0) + 1:
                return job
            displaced = self._pop(most, last=True)
        self._clients.setdefault(client, OrderedDict()).setdefault(username, deque()).append(job)
        self._counts[client] = self._counts.get(client, 0) + 1
        self._size += 1
        return displaced

    def take(self) -> Job | None:
        """The next job in turn; its client and its username go to the end."""
        if not self._clients:
            return None
        return self._pop(next(iter(self._clients)), last=False)

    def _pop(self, client: str, *, last: bool) -> Job:
        names = self._clients[client]
        username = next(reversed(names)) if last else next(iter(names))
        jobs = names[username]
        job = jobs.pop() if last else jobs.popleft()
        if not jobs:
            del names[username]
        elif not last:
            names.move_to_end(username)
        self._counts[client] -= 1
        self._size -= 1
        if not names:
            del self._clients[client], self._counts[client]
        elif not last:
            self._clients.move_to_end(client)
        return job
