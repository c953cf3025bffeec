"""How a command ends when it cannot go on: one sentence on stderr, and an exit code with a meaning.

The codes are those of the gateway, which `mailrelay up` passes on: 0 well, 2 configuration, 3 a
port in use, 4 data folder or spool.
"""

from __future__ import annotations

from typing import IO, Any

import click


class Stop(click.ClickException):
    """Ends the program with this sentence; its subclasses say with which code."""

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the sentence to stderr."""
        for line in self.message.splitlines():
            click.echo(f"mailrelay: {line}", err=True, file=file)


class NotAccepted(Stop):
    """The other side said no, or nothing."""

    exit_code = 1


class NotUsable(Stop):
    """Arguments, files or configuration cannot be used (click ends with 2 as well)."""

    exit_code = 2


class BadFiles(NotUsable):
    """As NotUsable, for lines that begin with FILE:LINE and are shown as they are."""

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the lines to stderr."""
        click.echo(self.message, err=True, file=file)


class FolderTrouble(Stop):
    """The data folder or its disk cannot be used."""

    exit_code = 4
