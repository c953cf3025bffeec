"""What a person at the terminal sees: one line per step, and one sentence when it fails."""

import sys
import time

_BEGAN = time.monotonic()


class ClusterError(Exception):
    """Something that stops the command.

    The text is one clear sentence (and perhaps a log's tail).
    """


def step(text: str) -> None:
    """Say what was just done. Goes to stderr, so that stdout carries results only."""
    print(f"{time.monotonic() - _BEGAN:7.1f}s  {text}", file=sys.stderr, flush=True)


def tail(text: str, lines: int = 12) -> str:
    """The last lines of a log, indented."""
    return "\n".join("    " + line for line in text.splitlines()[-lines:])
