"""Simulated SMTP servers: plain state machines that answer well, badly, late or not at all, by
their mood and the dice.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Callable, Sequence
from enum import StrEnum, auto

from tests.simulation.network import Wire

#: Told of each message whose final reply is 250: sender, recipients, content.
Took = Callable[[str, Sequence[str], bytes], None]


class Mood(StrEnum):
    """How a server behaves for a while."""

    WELL = auto()
    FLAKY = auto()  # anything, at any stage, now and then
    CLOSED = auto()  # connections are refused
    GONE = auto()  # connections are never answered
    BUSY = auto()  # 421 to everything
    STRANGER = auto()  # refuses us, not the recipients
    ONE_EACH = auto()  # leaves after each message
    LIAR = auto()  # takes the message, and says something else, or nothing
    SLOW = auto()
    DEAF = auto()  # stops at some point and stays silent


class Act(StrEnum):
    """What it does at one stage."""

    OK = auto()
    DEFER = auto()
    FAIL = auto()
    REFUSE_US = auto()
    BYE = auto()  # 421, and the end
    HANG_UP = auto()  # the end, without a word
    CUT = auto()  # a reset
    SILENT = auto()
    NONSENSE = auto()


_BAD = (Act.DEFER, Act.FAIL, Act.REFUSE_US, Act.BYE, Act.HANG_UP, Act.CUT, Act.SILENT, Act.NONSENSE)


class Server:
    """What listens at one address. Implements `network.Host`."""

    def __init__(self, dice: random.Random, took: Took, told: Callable[..., None]) -> None:
        self.dice = dice
        self.mood = Mood.WELL
        self.took = took
        self.told = told
        self.pipelining = dice.random() < 0.7
        self.size = dice.random() < 0.5

    def fate(self) -> str:
        return {Mood.CLOSED: "refused", Mood.GONE: "silent"}.get(self.mood, "open")

    def accept(self, wire: Wire) -> Session:
        return Session(self, wire)

    def act(self, stage: str) -> Act:
        """What to do at this stage."""
        dice = self.dice
        match self.mood:
            case Mood.FLAKY if dice.random() < 0.12:
                return dice.choice(_BAD)
            case Mood.BUSY:
                return Act.BYE
            case Mood.STRANGER if stage in ("MAIL", "RCPT") and dice.random() < 0.9:
                return Act.REFUSE_US
            case Mood.LIAR if stage == "dot":
                return dice.choice((Act.SILENT, Act.CUT, Act.HANG_UP, Act.DEFER, Act.NONSENSE))
            case Mood.DEAF if dice.random() < 0.3:
                return Act.SILENT
        return Act.OK


class Session:
    """One connection. Implements `network.Peer`."""

    def __init__(self, server: Server, wire: Wire) -> None:
        self._server = server
        self._wire = wire
        self._buffer = b""
        self._busy = False  # it thinks: what comes waits
        self._over = False
        self._in_data = False
        self._sender: str | None = None
        self._recipients: list[str] = []
        self._stage("greeting", lambda: self._say(220, "sim.example ESMTP"))

    # --- network.Peer

    def received(self, octets: bytes) -> None:
        self._buffer += octets
        self._work()

    def lost(self) -> None:
        self._over = True

    # --- acting

    def _work(self) -> None:
        while not self._busy and not self._over:
            if self._in_data:
                head, found, rest = (b"\r\n" + self._buffer).partition(b"\r\n.\r\n")
                if not found:
                    return
                self._in_data = False
                self._buffer = rest
                content = head[2:] + (b"\r\n" if head[2:] else b"")
                self._content(content.replace(b"\r\n..", b"\r\n."))
                continue
            line, found, rest = self._buffer.partition(b"\r\n")
            if not found:
                return
            self._buffer = rest
            self._command(line.decode())

    def _command(self, line: str) -> None:
        verb = line[:4].upper()
        match verb:
            case "EHLO":
                words = ["sim.example", "8BITMIME"]
                words += ["PIPELINING"] if self._server.pipelining else []
                words += ["SIZE 50000000"] if self._server.size else []
                lines = [f"250-{word}" for word in words[:-1]] + [f"250 {words[-1]}"]
                self._stage("EHLO", lambda: self._wire.reply("\r\n".join(lines).encode() + b"\r\n"))
            case "HELO":
                self._stage("EHLO", lambda: self._say(250, "sim.example"))
            case "MAIL":
                self._stage("MAIL", lambda: self._mail(_path(line)))
            case "RCPT":
                self._stage("RCPT", lambda: self._rcpt(_path(line)))
            case "DATA":
                if self._sender is None or not self._recipients:
                    self._say(503, "5.5.1 no recipients")
                else:
                    self._stage("DATA", self._data)
            case "RSET":
                self._forget()
                self._say(250, "2.0.0 ok")
            case "QUIT":
                self._stage("QUIT", lambda: self._say(221, "2.0.0 bye"))
                self._end()
            case _:
                self._say(502, "5.5.2 what?")

    def _mail(self, path: str) -> None:
        self._sender = path
        self._recipients = []
        self._say(250, "2.1.0 ok")

    def _rcpt(self, path: str) -> None:
        if self._sender is None:
            self._say(503, "5.5.1 MAIL first")
            return
        self._recipients.append(path)
        self._say(250, "2.1.5 ok")

    def _data(self) -> None:
        self._in_data = True
        self._say(354, "go on")

    def _content(self, content: bytes) -> None:
        server = self._server
        sender, recipients = self._sender or "", self._recipients
        self._forget()

        def take() -> None:
            server.took(sender, recipients, content)
            told = lambda: server.told(recipients, content)  # noqa: E731
            end = server.mood is Mood.ONE_EACH
            text = b"250 2.0.0 taken\r\n"
            if end and server.dice.random() < 0.3:
                text += b"421 4.3.0 that is all\r\n"
            self._wire.reply(text, told)
            if end:
                self._end()

        act = server.act("dot")
        if act in (Act.SILENT, Act.CUT, Act.HANG_UP) and server.dice.random() < 0.7:
            server.took(sender, recipients, content)  # and the reply never comes
        self._after(lambda: self._do(act, take))

    def _stage(self, stage: str, well: Callable[[], None]) -> None:
        act = self._server.act(stage)
        if act is Act.OK and not self._busy and self._server.mood is not Mood.SLOW:
            well()
        else:
            self._after(lambda: self._do(act, well))

    def _after(self, do: Callable[[], None]) -> None:
        """It takes a while."""
        dice = self._server.dice
        slow = self._server.mood is Mood.SLOW
        seconds = dice.choice((1.0, 6.0, 40.0)) if slow else dice.choice((0.0, 0.05, 1.0))
        self._busy = True

        def go_on() -> None:
            self._busy = False
            if not self._over:
                do()
                self._work()

        asyncio.get_running_loop().call_later(seconds, go_on)

    def _do(self, act: Act, well: Callable[[], None]) -> None:
        match act:
            case Act.OK:
                well()
            case Act.DEFER:
                self._say(451, "4.3.0 later")
            case Act.FAIL:
                self._say(550, "5.1.1 no such user")
            case Act.REFUSE_US:
                self._say(554, "5.7.1 Relay access denied")
            case Act.BYE:
                self._say(421, "4.3.2 not now")
                self._end()
            case Act.HANG_UP:
                self._end()
            case Act.CUT:
                self._over = True
                self._wire.reset()
            case Act.SILENT:
                self._over = True
                self._wire.reading = self._server.dice.random() < 0.5
            case Act.NONSENSE:
                self._wire.reply(self._server.dice.choice((b"well, well\r\n", b"354 go\r\n")))

    def _end(self) -> None:
        self._over = True
        self._wire.end()

    def _say(self, code: int, text: str) -> None:
        self._wire.reply(f"{code} {text}\r\n".encode())

    def _forget(self) -> None:
        self._sender = None
        self._recipients = []


def _path(line: str) -> str:
    found = re.search("<(.*?)>", line)
    return found.group(1) if found else ""
