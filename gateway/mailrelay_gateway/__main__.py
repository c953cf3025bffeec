"""The gateway's command line: parses the arguments and runs one process.

Exit codes, each with one sentence on stderr: 2 invalid arguments or an unusable configuration (only
with --require-config), 3 an address in use, 4 an unusable or failed spool, 5 a stop that took too
long. 1 is an internal error, with a traceback in the log and on stderr.
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

#: The interpreter's switch interval instead of 5 ms: the spool's thread must not wait for the loop.
SWITCH_INTERVAL = 0.0005
#: Seconds to write the last lines to stdout and stderr.
LAST_WORDS_FOR = 2.0
EXIT_CRASHED = 1
#: Used instead of 0.0.0.0, which does not work on an IPv6-only node.
ANY_ADDRESS = "any"

log = structlog.get_logger()


def parse_arguments(arguments: Sequence[str]) -> Arguments:
    """The arguments; argparse exits with code 2 and a message if they are invalid."""
    parser = argparse.ArgumentParser(
        prog="python -m mailrelay_gateway", description="The mailrelay gateway."
    )
    parser.add_argument("--config", type=Path, required=True, help="configuration folder")
    parser.add_argument("--spool", type=Path, required=True, help="queue folder")
    parser.add_argument(
        "--bind",
        default="127.0.0.1",
        help="address of the listeners; any: all addresses, IPv4 and IPv6",
    )
    parser.add_argument(
        "--admin",
        default=f"127.0.0.1:{ADMIN_PORT}",
        help="HOST:PORT of the admin port (metrics and status); HOST as for --bind",
    )
    parser.add_argument(
        "--admin-tls",
        action="store_true",
        help="HTTPS on the admin port, with the certificate in the configuration",
    )
    parser.add_argument(
        "--accept-for", type=float, default=5.0, help="seconds to keep accepting mail after SIGTERM"
    )
    parser.add_argument("--grace", type=float, default=120.0, help="seconds to drain after SIGTERM")
    parser.add_argument(
        "--low-water",
        type=int,
        default=LOW_WATER,
        help="octets of free space below which no mail is accepted",
    )
    parser.add_argument(
        "--queue-size",
        type=int,
        default=None,
        help="octets that the queue may use, if the volume itself does not limit it",
    )
    parser.add_argument(
        "--require-config",
        action="store_true",
        help="exit with code 2 if the configuration is unusable, instead of waiting for one",
    )
    parser.add_argument(
        "--tokens",
        type=Path,
        default=Path(TOKENS_FOLDER),
        help="folder with the ServiceAccount tokens for token endpoints",
    )
    found = parser.parse_args(arguments)
    host, colon, port = found.admin.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:
        parser.error(f"--admin {found.admin!r}: must be HOST:PORT, such as 127.0.0.1:{ADMIN_PORT}")
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
    """An address to bind; empty means every address of both families, as in asyncio."""
    return "" if text == ANY_ADDRESS else text.strip("[]")


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a gateway and exit."""
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
    # Do not wait for threads that still block (on the log's reader, or a folder that does not
    # answer).
    os._exit(code)


def _say(text: str) -> None:
    """Write to stderr, within a deadline."""
    thread = threading.Thread(target=_write_stderr, args=(text.encode(),), daemon=True)
    thread.start()
    thread.join(LAST_WORDS_FOR)


def _write_stderr(octets: bytes) -> None:
    with contextlib.suppress(OSError):
        while octets:
            octets = octets[os.write(2, octets) :]


if __name__ == "__main__":
    main()
