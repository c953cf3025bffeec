"""File descriptors: as many as we may have, and how many sessions they are enough for."""

from __future__ import annotations

import errno
import resource

#: More than this nobody needs; some container runtimes give a thousand million.
MOST = 1 << 20
#: Kept back for spool, admin port, log, DNS and files that are open for a moment.
RESERVED = 256
#: Sessions that a gateway serves at once where descriptors are no matter: each costs memory too.
MOST_SESSIONS = 4000

_SHORTAGE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


def raise_limit() -> int:
    """Raise the soft limit of descriptors to the hard one; returns what it is now. Most systems
    begin processes with 1,024, which is for programs that use select().
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST if hard == resource.RLIM_INFINITY else min(hard, MOST)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    return min(soft, MOST) if soft != resource.RLIM_INFINITY else MOST


def sessions_for(limit: int) -> int:
    """How many sessions may be served at once with so many descriptors: each may hold two (its
    connection, and the file of a large message), and a third is for connections to upstreams.
    """
    return max(1, min(MOST_SESSIONS, (limit - min(RESERVED, limit // 2)) // 3))


def is_shortage(error: BaseException) -> bool:
    """Whether something failed for want of descriptors, or of the kernel's memory for a socket: our
    own fault, and nobody else's.
    """
    return isinstance(error, OSError) and error.errno in _SHORTAGE
