"""Every file of tests/dialogs is a conversation that real listeners have to hold, as its own file
says.

A file is read from the top. A line that begins with `#` is a comment. First come settings:

    listener NAME          which listener to talk to (submission, implicit, open, closed)
    maxsize N              limits.message.maxSize
    maxrecipients N        limits.message.maxRecipients
    surplus deferred       limits.message.onTooManyRecipients is DeferRecipients
    rate N                 limits.rates: that many messages a minute
    drain N                octets beyond maxsize that are taken and dropped
    control NAMES          fields that the upstream is steered by, or their beginnings
    passes NAMES           single ones of them that it may be given
    pace whole             the octets are not sent one at a time: the test is about one write

The rest is, line by line:

    C: text                the client sends the line and CRLF; lines that follow each other go out
                           in one write
    C| text                the client sends exactly this; \\r \\n \\t \\0 \\xNN \\\\ and \\s (a
                           blank) are octets
    S: text                the server answers with this line; `...` stands for anything
    S+ code                the server answers with a whole reply of that code, whatever it says
    TLS                    the client begins TLS now
    LOGIN                  EHLO, and AUTH PLAIN with the right password
    END                    the server closes, and has said nothing more
    STORED sender to ...   one more message was stored, from and to these; <> is the null sender
    BODY text              the last one ends with this (octets as in C|)
    NOTHING                nothing was stored in all

Each runs twice: as it stands, and with the client's octets sent one at a time, which must make no
difference.
"""

from __future__ import annotations

import base64
import re
import socket
from pathlib import Path

import pytest

from mailrelay_gateway.intake.places import Caps
from tests.integration.intake.gate import (
    HOSTNAME,
    PASSWORD,
    USERNAME,
    Client,
    configuration,
    open_gate,
)
from tests.models import made
from tests.peers.certificates import certificate, trusting
from tests.waiting import until

DIALOGS = sorted((Path(__file__).parents[2] / "dialogs").glob("*.txt"))
_ESCAPE = re.compile(rb"\\(?:x([0-9a-fA-F]{2})|(.))", re.DOTALL)
_SIMPLE = {b"r": b"\r", b"n": b"\n", b"0": b"\0", b"t": b"\t", b"\\": b"\\", b"s": b" "}


def octets(text: str) -> bytes:
    """Text with escapes as octets."""
    return _ESCAPE.sub(
        lambda match: bytes.fromhex(match[1].decode()) if match[1] else _SIMPLE[match[2]],
        text.encode(),
    )


def matches(pattern: str, line: str) -> bool:
    """Whether a reply line is what the dialog expects, `...` being anything."""
    parts = (re.escape(part) for part in pattern.split("..."))
    return re.fullmatch(".*".join(parts), line) is not None


def read_settings(lines: list[str]) -> tuple[dict[str, str], list[str]]:
    """The settings at the top of a dialog, and the rest."""
    settings: dict[str, str] = {}
    while lines and lines[0].split(" ")[0] in (
        "listener",
        "maxsize",
        "maxrecipients",
        "rate",
        "drain",
        "surplus",
        "control",
        "passes",
        "pace",
    ):
        name, _, value = lines.pop(0).partition(" ")
        settings[name] = value
    return settings, lines


@pytest.mark.parametrize("pace", ["whole", "octets"])
@pytest.mark.parametrize("path", DIALOGS, ids=lambda path: path.stem)
async def test_dialog(path: Path, pace: str, tmp_path: Path) -> None:
    written = [line for line in path.read_text().splitlines() if line and line[0] != "#"]
    settings, lines = read_settings(written)
    if settings.get("pace", pace) != pace:
        return
    config = configuration(
        max_size=int(settings.get("maxsize", 1 << 20)),
        max_recipients=int(settings.get("maxrecipients", 3)),
        defers_surplus=settings.get("surplus") == "deferred",
        rates=[made.rate(scope="Sender", count=int(settings["rate"]), per=60.0, burst=1)]
        if "rate" in settings
        else (),
        control_headers=settings.get("control", "").split(),
        pass_headers=settings.get("passes", "").split(),
    )
    context = trusting(certificate("localhost", HOSTNAME))
    caps = Caps(drain=int(settings.get("drain", 1000)))
    async with open_gate(tmp_path, config, caps=caps) as gate:
        name = settings["listener"]
        client = await Client.connect(gate.ports[name], context if name == "implicit" else None)
        # One octet a segment, not gathered by Nagle's algorithm.
        client.writer.get_extra_info("socket").setsockopt(
            socket.IPPROTO_TCP, socket.TCP_NODELAY, True
        )
        stored, waiting = 0, b""
        reply: list[str] = []

        async def send() -> None:
            nonlocal waiting
            if not waiting:
                return
            for each in [waiting] if pace == "whole" else [bytes([x]) for x in waiting]:
                client.writer.write(each)
                await client.writer.drain()
            waiting = b""

        for number, line in enumerate(lines, 1):
            where = f"{path.name}, line {number} of the dialog: {line}"
            kind, _, rest = line.partition(" ")
            if kind in ("C:", "C|"):
                waiting += octets(rest) if kind == "C|" else f"{rest}\r\n".encode()
                continue
            await send()
            if kind == "S:":
                reply = reply or (await client.reply()).split("\n")
                assert matches(rest, reply[0]), f"{where}\n  but it said: {reply[0]}"
                reply = reply[1:]
            elif kind == "S+":
                said = await client.reply()
                assert said.split("\n")[-1][:4] == f"{rest} ", f"{where}\n  but it said: {said}"
            elif kind == "TLS":
                await client.start_tls(context)
            elif kind == "LOGIN":
                token = base64.b64encode(f"\0{USERNAME}\0{PASSWORD}".encode()).decode()
                assert (await client.ask("EHLO client.example.org")).startswith("250"), where
                assert (await client.ask(f"AUTH PLAIN {token}")).startswith("235"), where
            elif kind == "END":
                assert await client.ended(), where
            elif kind == "STORED":
                stored += 1
                await until(lambda wanted=stored: len(gate.intake.messages) >= wanted)  # type: ignore[misc]
                message = gate.intake.messages[stored - 1]
                envelope = [message.envelope_sender or "<>", *gate.intake.recipients[stored - 1]]
                assert envelope == rest.split(), where
            elif kind == "BODY":
                assert gate.intake.body().endswith(octets(rest)), f"{where}\n{gate.intake.body()!r}"
            elif kind == "NOTHING":
                assert stored == 0
            else:
                pytest.fail(f"what is this? {where}")
        await send()
        await client.close()
        assert len(gate.intake.messages) == stored
