"""How a command ends with an error: one sentence on stderr and an exit code.

The codes are those of the gateway, which `mailrelay up` passes on: 0 success, 2 configuration, 3 a
port in use, 4 data folder or spool.
"""

from __future__ import annotations

from typing import IO, Any

import click


class Stop(click.ClickException):
    """Ends the program with this sentence; subclasses define the exit code."""

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the sentence to stderr."""
        for line in self.message.splitlines():
            click.echo(f"mailrelay: {line}", err=True, file=file)


class NotAccepted(Stop):
    """The server refused, or did not answer."""

    exit_code = 1


class NotUsable(Stop):
    """Arguments, files or configuration are not valid (click also exits with 2)."""

    exit_code = 2


class BadFiles(NotUsable):
    """Like NotUsable, for lines that begin with FILE:LINE and are shown unchanged."""

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the lines to stderr."""
        click.echo(self.message, err=True, file=file)


class FolderTrouble(Stop):
    """The data folder or its disk is unusable."""

    exit_code = 4
