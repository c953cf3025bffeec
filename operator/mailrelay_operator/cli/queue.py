"""`mailrelay queue`: works on a queue on disk, with the gateway's own programs."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click


@click.group()
def queue() -> None:
    """Inspect and repair the queue on disk."""


@queue.command()
@click.argument("data", type=click.Path(path_type=Path, file_okay=False, exists=True))
def salvage(data: Path) -> None:
    """Recover messages from damaged databases in quarantine.

    DATA is the data folder of `mailrelay up`, or a gateway's spool. The gateway may be running; it
    queues the recovered messages at its next start, each once. Nothing in quarantine is changed or
    removed.

    Exit code 0: everything was recovered. 1: something is lost; the output says how much. 4: DATA
    contains no queue.
    """
    # exec: this program may import only the contract of the gateway, and signals reach the worker.
    sys.stdout.flush()
    module = "mailrelay_gateway.queue.disk.salvage"
    os.execv(sys.executable, [sys.executable, "-m", module, str(data)])  # noqa: S606
