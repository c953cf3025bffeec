"""The gateway's command line: its arguments, and one process run to its end.

Exit codes, each with one sentence on stderr: 2 wrong arguments or a configuration that cannot be
read (only with --require-config), 3 an address in use, 4 a spool that cannot be used or has failed.
1 is a defect of ours, with a traceback in the log and on stderr; 5 a stop that took too long.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sys
import threading
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import structlog
import uvloop

from mailrelay_gateway import log as logging
from mailrelay_gateway.contract.documents import ADMIN_PORT
from mailrelay_gateway.contract.oauth2 import TOKENS_FOLDER
from mailrelay_gateway.descriptors import raise_limit
from mailrelay_gateway.process import Arguments, Gateway, Stop
from mailrelay_gateway.queue.disk.space import LOW_WATER

#: A thread waits this long for the interpreter lock, instead of 5 ms: the spool's thread must not
#: wait for the loop.
SWITCH_INTERVAL = 0.0005
#: Seconds that the readers of stdout and stderr have for what was said at the end.
LAST_WORDS_FOR = 2.0
EXIT_CRASHED = 1
#: A word instead of 0.0.0.0, which is nobody's address on a node that has IPv6 only.
ANY_ADDRESS = "any"

log = structlog.get_logger()


def parse_arguments(arguments: Sequence[str]) -> Arguments:
    """The command line; argparse ends the process with code 2 and a sentence where it is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m mailrelay_gateway", description="The mailrelay gateway."
    )
    parser.add_argument("--config", type=Path, required=True, help="folder of the configuration")
    parser.add_argument("--spool", type=Path, required=True, help="folder of the queue")
    parser.add_argument(
        "--bind",
        default="127.0.0.1",
        help="address that listeners bind; any: all addresses, IPv4 and IPv6",
    )
    parser.add_argument(
        "--admin",
        default=f"127.0.0.1:{ADMIN_PORT}",
        help="HOST:PORT of metrics and status; HOST as for --bind",
    )
    parser.add_argument(
        "--admin-tls",
        action="store_true",
        help="HTTPS at the admin port, with the certificate that the configuration has for it",
    )
    parser.add_argument(
        "--accept-for", type=float, default=5.0, help="seconds of accepting after SIGTERM"
    )
    parser.add_argument(
        "--grace", type=float, default=120.0, help="seconds for draining after SIGTERM"
    )
    parser.add_argument(
        "--low-water",
        type=int,
        default=LOW_WATER,
        help="octets of free space below which nothing is accepted",
    )
    parser.add_argument(
        "--queue-size",
        type=int,
        default=None,
        help="octets that the queue may take, where the volume has no such limit of its own",
    )
    parser.add_argument(
        "--require-config",
        action="store_true",
        help="end with code 2 when the configuration cannot be read, instead of waiting for one",
    )
    parser.add_argument(
        "--tokens",
        type=Path,
        default=Path(TOKENS_FOLDER),
        help="folder with the ServiceAccount tokens that are shown at token endpoints",
    )
    found = parser.parse_args(arguments)
    host, colon, port = found.admin.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:
        parser.error(f"--admin {found.admin!r}: give HOST:PORT, for example 127.0.0.1:{ADMIN_PORT}")
    return Arguments(
        config=found.config,
        spool=found.spool,
        bind=_host(found.bind),
        admin_host=_host(host),
        admin_port=int(port),
        admin_tls=found.admin_tls,
        accept_for=found.accept_for,
        grace=found.grace,
        low_water=found.low_water,
        queue_size=found.queue_size,
        require_config=found.require_config,
        tokens=found.tokens,
    )


def _host(text: str) -> str:
    """An address to bind; empty is every address of both families, as asyncio has it."""
    return "" if text == ANY_ADDRESS else text.strip("[]")


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a gateway, and end the process."""
    parsed = parse_arguments(sys.argv[1:] if arguments is None else arguments)
    sys.setswitchinterval(SWITCH_INTERVAL)
    writer = logging.configure(open(1, "wb", buffering=0, closefd=False))  # noqa: SIM115 - stdout, to the end
    code, last_words = 0, ""
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            gateway = Gateway(
                parsed, descriptors=raise_limit(), log_lines_dropped=lambda: writer.dropped
            )
            runner.run(gateway.run())
    except Stop as stop:
        code, last_words = stop.code, f"mailrelay-gateway: {stop}\n"
    except Exception:
        log.critical("crashed", exc_info=True)
        code, last_words = EXIT_CRASHED, traceback.format_exc()
    writer.close(LAST_WORDS_FOR)
    _say(last_words)
    # Whatever a thread still waits for (a reader of the log, a folder that does not answer), it is
    # of no use any more.
    os._exit(code)


def _say(text: str) -> None:
    """Write to stderr, as far as its reader takes it in time."""
    thread = threading.Thread(target=_write_stderr, args=(text.encode(),), daemon=True)
    thread.start()
    thread.join(LAST_WORDS_FOR)


def _write_stderr(octets: bytes) -> None:
    with contextlib.suppress(OSError):
        while octets:
            octets = octets[os.write(2, octets) :]


if __name__ == "__main__":
    main()
