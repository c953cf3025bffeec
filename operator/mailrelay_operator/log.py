"""The operator's log: one JSON object per line on stdout, including the libraries' lines.

Events and keys are those of docs/logs.md, the same as the gateway's. No Secret's content is ever
logged.
"""

from __future__ import annotations

import logging
import time
from collections.abc import MutableMapping
from typing import Any, BinaryIO

import structlog

from mailrelay_gateway.contract.log_lines import log_line

#: Libraries that log too much below WARNING.
LIBRARIES = ("kopf", "aiohttp", "aiohttp_retry", "asyncio", "kubernetes")


def configure(level: str, stream: BinaryIO) -> None:
    """Send structlog's lines and those of libraries to `stream`."""
    structlog.configure(
        processors=[_render],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.BytesLoggerFactory(stream),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=level.upper(), handlers=[_FromLibraries()], force=True)
    logging.captureWarnings(True)
    for library in LIBRARIES:
        logging.getLogger(library).setLevel(logging.WARNING)


class _FromLibraries(logging.Handler):
    """Logs the records of kopf, aiohttp and other libraries as JSON lines. Duplicated in the
    gateway: the two share only the contract, which is pure."""

    def emit(self, record: logging.LogRecord) -> None:
        log = structlog.get_logger()
        name, detail = record.name, record.getMessage()
        if record.levelno >= logging.ERROR:
            log.error("library_message", logger=name, detail=detail, exc_info=record.exc_info)
        else:
            log.warning("library_message", logger=name, detail=detail, exc_info=record.exc_info)


def _render(_logger: Any, method: str, event: MutableMapping[str, Any]) -> bytes:
    if event.get("exc_info"):
        event = structlog.processors.format_exc_info(_logger, method, event)
    return log_line(method, event.pop("event"), event, now=time.time())
