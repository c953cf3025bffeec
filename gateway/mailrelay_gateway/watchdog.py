"""Ends the process when its stop takes longer than it may, whatever it hangs in: a dead volume, a
thread, the event loop. What was answered 250 is on disk, so this is no worse than a crash.
"""

from __future__ import annotations

import os
import threading
import time

import structlog

log = structlog.get_logger()

#: The exit code of a process that did not stop in time.
EXIT_OVERDUE = 5
#: Seconds that the last line has to reach the reader of the log.
LAST_LINE_FOR = 0.5


def end_after(seconds: float) -> None:
    """End the process in so many seconds unless it has ended."""
    timer = threading.Timer(seconds, _end, args=(seconds,))
    timer.daemon = True
    timer.start()


def _end(seconds: float) -> None:
    log.critical("stop_forced", seconds=seconds)
    time.sleep(LAST_LINE_FOR)
    os._exit(EXIT_OVERDUE)
