"""Postfix's smtp-sink: a server that we did not write, whose faults are its options."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.ports import free_port
from tests.waiting import PATIENCE, wait_until

#: Debian keeps it where not every user looks.
_SBIN = "/usr/sbin:/usr/local/sbin:/sbin"


@contextmanager
def smtp_sink(*options: str, port: int = 0, folder: Path | None = None) -> Iterator[int]:
    """It listens at this port of loopback, or a free one, until the end; its dumps (`-d`) are
    written to the folder.
    """
    program = shutil.which("smtp-sink", path=f"{os.environ.get('PATH', '')}:{_SBIN}")
    assert program, "smtp-sink is missing: apt-get install postfix (see debian-packages.txt)"
    port = port or free_port()
    # As root it insists on being told whom to become; only root can write to any folder.
    user = ["-u", "root" if folder else "nobody"] if os.geteuid() == 0 else []
    command = [program, *user, *options, f"127.0.0.1:{port}", "100"]
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.DEVNULL) as running:

        def listens() -> bool:
            assert running.poll() is None, f"smtp-sink ended with {running.returncode}"
            with suppress(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", port), timeout=PATIENCE).close()
                return True
            return False

        try:
            wait_until(listens, "smtp-sink")
            yield port
        finally:
            running.kill()
