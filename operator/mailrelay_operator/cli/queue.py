"""`mailrelay queue`: what a person does with a queue on disk. The gateway's own programs do it."""

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
    queues what was recovered at its next start, each message once. Nothing in quarantine is changed
    or removed.

    Exit code 0: all was recovered. 1: something is lost; the output says how much. 4: DATA holds no
    queue.
    """
    # Another program in our place: this one imports nothing of the gateway but its configuration,
    # and a signal reaches whoever works.
    sys.stdout.flush()
    module = "mailrelay_gateway.queue.disk.salvage"
    os.execv(sys.executable, [sys.executable, "-m", module, str(data)])  # noqa: S606
