"""The process that `mailrelay up` starts: the gateway, which ends with its parent.

If the parent is killed, the kernel sends this process SIGTERM, so that no gateway is left behind
that occupies ports and spool.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

from mailrelay_gateway.__main__ import main

#: The environment variable with the parent's process id.
PARENT = "MAILRELAY_PARENT"
#: linux/prctl.h: the signal on the parent's death.
_PR_SET_PDEATHSIG = 1


def _die_with_parent(parent: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(0)  # the parent died before the call


if __name__ == "__main__":
    _die_with_parent(int(os.environ[PARENT]))
    main()
