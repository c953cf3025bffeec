"""The program `mailrelay` (and `kubectl mailrelay`): its commands, and its error handling."""

from __future__ import annotations

import difflib
import importlib
from typing import Any

import click

from mailrelay_operator import __version__
from mailrelay_operator.cli.documents import FilesUnusable
from mailrelay_operator.cli.folder import FolderUnusable
from mailrelay_operator.cli.stop import BadFiles, FolderTrouble

#: Each is a module of that name; only the one called is imported, for a fast start.
_COMMANDS = ("up", "check", "render", "send", "inbox", "status", "queue")


class _Program(click.Group):
    """Loads commands on demand; turns their exceptions into messages and exit codes."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0] if args else ""
        if name and not name.startswith("-") and name not in _COMMANDS:
            close = difflib.get_close_matches(name, _COMMANDS, n=1)
            known = f"Did you mean {close[0]}?" if close else f"Commands: {', '.join(_COMMANDS)}."
            ctx.fail(f"No such command {name!r}. {known}")
        return super().resolve_command(ctx, args)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"mailrelay_operator.cli.{cmd_name}")
        command: click.Command = getattr(module, cmd_name)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except FilesUnusable as error:
            raise BadFiles(str(error)) from None
        except FolderUnusable as error:
            raise FolderTrouble(str(error)) from None
        except BrokenPipeError:
            raise  # click exits silently: the reader has closed the pipe
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            raise FolderTrouble(f"{where}{error.strerror or error}.") from None


@click.group(cls=_Program, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="mailrelay", message="%(prog)s %(version)s")
def main() -> None:
    """mailrelay, an outbound mail gateway: run a relay on this machine, or check manifests for a
    cluster."""
