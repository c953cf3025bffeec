"""The gateway's log: one JSON object per line, through structlog and orjson to a writer thread.

Events and keys are those of docs/logs.md; passwords and bodies are never logged. Lines of libraries
and uncaught exceptions are logged too: nothing else may write to stdout or stderr while mail is
relayed.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import MutableMapping
from io import RawIOBase
from typing import Any

import structlog

from mailrelay_gateway.contract.log_lines import log_line
from mailrelay_gateway.logwriter import LineWriter


def configure(stream: RawIOBase) -> LineWriter:
    """Send structlog's lines and those of libraries to `stream` as JSON lines; returns the writer,
    to be closed at exit.
    """
    writer = LineWriter(stream, say_dropped=_say_dropped)
    structlog.configure(
        processors=[_render],
        wrapper_class=_Logger,
        logger_factory=lambda *_: writer,
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(handlers=[_FromLibraries()], level=logging.WARNING, force=True)
    logging.captureWarnings(True)
    threading.excepthook = lambda args: _uncaught(
        args.exc_value, f"in thread {args.thread.name}" if args.thread else "in a thread"
    )
    sys.unraisablehook = lambda args: _uncaught(args.exc_value, args.err_msg or "")
    return writer


class _Logger(structlog.BoundLoggerBase):
    """The logger of `structlog.get_logger()`, from info up. Each message logs two lines, and
    structlog's own logger takes three calls and two copies of the fields instead of one.
    """

    def debug(self, event: str, **fields: Any) -> None:
        """Ignored."""

    def info(self, event: str, **fields: Any) -> None:
        """Normal operation."""
        self._say("info", event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        """Something that may need attention."""
        self._say("warning", event, fields)

    def error(self, event: str, **fields: Any) -> None:
        """Something that needs attention."""
        self._say("error", event, fields)

    def critical(self, event: str, **fields: Any) -> None:
        """Something that needs action."""
        self._say("critical", event, fields)

    def exception(self, event: str, **fields: Any) -> None:
        """An error, with the current exception."""
        fields.setdefault("exc_info", True)
        self._say("error", event, fields)

    def _say(self, method: str, event: str, fields: MutableMapping[str, Any]) -> None:
        line: Any = fields
        line["event"] = event
        try:
            for processor in self._processors:
                line = processor(self._logger, method, line)
        except structlog.DropEvent:
            return
        self._logger.msg(line)


def _say_dropped(count: int) -> bytes:
    return _render(None, "warning", {"event": "log_lines_dropped", "count": count})


def _uncaught(error: BaseException | None, detail: str) -> None:
    structlog.get_logger().error("uncaught_exception", exc_info=error, detail=detail)


class _FromLibraries(logging.Handler):
    """Logs the records of asyncio, aiohttp and other libraries as JSON lines."""

    def emit(self, record: logging.LogRecord) -> None:
        log = structlog.get_logger()
        name, detail = record.name, record.getMessage()
        if record.levelno >= logging.ERROR:
            log.error("library_message", logger=name, detail=detail, exc_info=record.exc_info)
        else:
            log.warning("library_message", logger=name, detail=detail, exc_info=record.exc_info)


def _render(_logger: Any, method: str, event: MutableMapping[str, Any]) -> bytes:
    if "exc_info" in event:
        event = structlog.processors.format_exc_info(_logger, method, event)
    return log_line(method, event.pop("event"), event, now=time.time())
