"""File descriptors: raises their limit, and derives the number of sessions from it."""

from __future__ import annotations

import errno
import resource

#: Upper bound on the limit; some container runtimes set 10^9.
MOST = 1 << 20
#: Reserved for spool, admin port, log, DNS and short-lived files.
RESERVED = 256
#: Maximum number of concurrent sessions, since each also costs memory.
MOST_SESSIONS = 4000

_SHORTAGE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


def raise_limit() -> int:
    """Raise the soft limit of descriptors to the hard one; returns the new limit. Most systems
    start processes with 1,024, for programs that use select().
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST if hard == resource.RLIM_INFINITY else min(hard, MOST)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    return min(soft, MOST) if soft != resource.RLIM_INFINITY else MOST


def sessions_for(limit: int) -> int:
    """The number of concurrent sessions for a limit of descriptors: each may need two (its
    connection, and the file of a large message), and a third is for connections to upstreams.
    """
    return max(1, min(MOST_SESSIONS, (limit - min(RESERVED, limit // 2)) // 3))


def is_shortage(error: BaseException) -> bool:
    """Whether an error is a shortage of descriptors or of kernel memory for sockets: a local fault,
    not a peer's.
    """
    return isinstance(error, OSError) and error.errno in _SHORTAGE
