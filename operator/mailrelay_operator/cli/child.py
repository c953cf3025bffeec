"""What `mailrelay up` starts: the gateway, tied to the life of its parent.

Nothing else happens here. Should the parent die without a word, the kernel sends us SIGTERM, so
that no gateway is left behind holding ports and spool.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

from mailrelay_gateway.__main__ import main

#: The environment variable with the parent's process id.
PARENT = "MAILRELAY_PARENT"
#: linux/prctl.h: the signal that we get when our parent dies.
_PR_SET_PDEATHSIG = 1


def _die_with_parent(parent: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(0)  # it died before we asked


if __name__ == "__main__":
    _die_with_parent(int(os.environ[PARENT]))
    main()
