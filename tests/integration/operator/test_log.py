"""The operator's log: lines of docs/logs.md, whatever logs and however much."""

from __future__ import annotations

import asyncio
import json
import sys

from mailrelay_gateway.contract.log_lines import MAX_LINE
from tests.peers import vocabulary

PROGRAM = """
import logging, sys, warnings
import structlog
from mailrelay_operator import log as lines

lines.configure("info", sys.stdout.buffer)
log = structlog.get_logger()
log.debug("applied", object="Secret mail/unseen")
log.info("applied", object="Secret mail/office")
log.warning("watch_broken", watch="pods", error="x" * 100_000)
logging.getLogger("aiohttp.access").info("unseen")
logging.getLogger("kopf.objects").warning("Something %s", "odd")
warnings.warn("old")
try:
    raise ValueError("the cause")
except ValueError:
    log.exception("internal_error", object="MailRelay mail/office")
    logging.getLogger("asyncio").exception("Task failed")
"""


async def test_each_line_is_json_of_the_vocabulary_and_bounded() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "always", "-c", PROGRAM, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert process.returncode == 0
    lines = [json.loads(line) for line in out.splitlines()]
    assert [(line["level"], line["event"]) for line in lines] == [
        ("info", "applied"),
        ("warning", "watch_broken"),
        ("warning", "library_message"),
        ("warning", "library_message"),
        ("error", "internal_error"),
        ("error", "library_message"),
    ]
    assert [each for line in lines for each in vocabulary.problems(line)] == []
    assert max(len(line) + 1 for line in out.splitlines()) <= MAX_LINE
    assert lines[2]["detail"] == "Something odd"
    assert lines[2]["logger"] == "kopf.objects"
    assert lines[4]["exception"].endswith("ValueError: the cause")
    assert lines[5]["exception"].endswith("ValueError: the cause")
