"""The gateway's log on its way to a person: readable, bounded, never able to stop the gateway."""

import io
import json
import threading
from datetime import UTC
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailrelay_operator.cli.delivery import LogTail, describe, follow
from mailrelay_operator.cli.loglines import humanize
from mailrelay_operator.cli.terminal import LineSplitter, LogFile, Terminal


def shown(**record: object) -> str:
    return humanize(json.dumps(record).encode(), zone=UTC)


def test_a_line_begins_with_time_event_and_queue_id() -> None:
    line = shown(
        time="2030-01-31T10:11:12.345Z",
        level="info",
        event="bounced",
        queue_id="01A",
        recipients=["a@b"],
    )
    assert line == "10:11:12 bounced 01A recipients=a@b"


@pytest.mark.parametrize(
    ("record", "line"),
    [
        (
            {
                "event": "accepted",
                "sender": "team/app",
                "envelope_sender": "app@a.example",
                "recipients": ["a@b.example", "c@d.example"],
                "recipient_count": 150,
                "client": "127.0.0.1",
                "tls": "TLSv1.3",
                "size": 507,
            },
            "accepted 01A from app@a.example to a@b.example +149",
        ),
        (
            {"event": "accepted", "envelope_sender": "", "recipients": ["a@b"]},
            "accepted 01A from <> to a@b",
        ),
        ({"event": "captured", "upstream": "x", "recipients": ["a@b"]}, "captured 01A to a@b"),
        (
            {
                "event": "delivery",
                "result": "delivered",
                "recipients": ["a@b"],
                "host": "mx.example:25",
                "reply": "250 2.0.0 Ok: queued as " + "x" * 500,
            },
            "delivered 01A to a@b at mx.example:25: 250 2.0.0 Ok: queued as " + "x" * 33 + "...",
        ),
        (
            {
                "event": "delivery",
                "result": "held",
                "recipients": ["a@b"],
                "upstream": "out",
                "reason": "UpstreamUnreachable",
            },
            "held 01A to a@b at out: UpstreamUnreachable",
        ),
    ],
)
def test_a_message_is_one_short_line_for_each_step(record: dict[str, object], line: str) -> None:
    assert shown(queue_id="01A", level="info", **record) == line


def test_a_refusal_is_where_it_was_and_what_was_answered() -> None:
    line = shown(event="refused", stage="mail", client="::1", reply="550 5.7.1 No (X)", reason="X")
    assert line == "refused at MAIL from ::1: 550 5.7.1 No (X)"
    line = shown(event="refused", stage="starttls", client="::1", detail="Not trusted", reason="X")
    assert line == "refused at STARTTLS from ::1: Not trusted (X)"


def test_what_is_not_well_is_marked_and_empty_values_are_left_out() -> None:
    assert shown(level="error", event="config_refused", error="no such port", x="", y=None) == (
        'ERROR config refused error="no such port"'
    )


@pytest.mark.parametrize("line", [b"a warning of a library\n", b"[1]", b"", b"{"])
def test_what_is_no_record_is_shown_as_it_is(line: bytes) -> None:
    assert humanize(line) == line.decode().rstrip()


@given(st.text())
def test_no_value_can_steer_the_terminal(text: str) -> None:
    """Whatever a client put into an address, a shown line holds printable characters only."""
    assert humanize(
        json.dumps({"event": text, "queue_id": text, "recipients": [text], "x": text}).encode()
    ).isprintable()


@given(st.lists(st.binary(max_size=5)), st.integers(1, 7))
def test_lines_come_whole_however_they_were_cut(parts: list[bytes], size: int) -> None:
    """The lines of a stream do not depend on how its octets arrive."""
    stream = b"\n".join(parts)
    whole: list[bytes] = []
    cut: list[bytes] = []
    for octets, lines in (
        ([stream], whole),
        ([stream[n : n + size] for n in range(0, len(stream), size)], cut),
    ):
        splitter = LineSplitter(lines.extend)
        for one in octets:
            splitter.feed(one)
        splitter.close()
    assert cut == whole
    assert b"\n".join(whole) == stream.removesuffix(b"\n")


def test_a_line_without_end_comes_in_parts() -> None:
    lines: list[bytes] = []
    splitter = LineSplitter(lines.extend, limit=10)
    splitter.feed(b"x" * 25)
    assert lines == [b"x" * 25]


def test_a_log_file_keeps_one_predecessor(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "log", limit=10)
    for number in range(10):
        log.write(b"line %d\n" % number)
    log.close()
    kept = (tmp_path / "log.1").read_bytes() + (tmp_path / "log").read_bytes()
    assert kept.endswith(b"line 8\nline 9\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log", "log.1"]
    assert len(kept) <= 4 * 10


def test_a_log_file_that_cannot_be_written_stops_nobody(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "missing" / "log")
    log.write(b"line\n")
    log.close()


def test_a_terminal_that_stands_still_loses_lines_and_says_how_many() -> None:
    class Stuck(io.StringIO):
        gate = threading.Event()
        entered = threading.Event()

        def write(self, text: str) -> int:
            self.entered.set()
            assert self.gate.wait(30)
            return super().write(text)

    stream = Stuck()
    terminal = Terminal(stream, waiting=2)
    terminal.line("first")
    assert stream.entered.wait(30)
    for number in range(5):
        terminal.line(f"line {number}")
    stream.gate.set()
    terminal.close()
    assert stream.getvalue() == (
        "first\n(3 log lines were not shown: the terminal is too slow)\nline 0\nline 1\n"
    )


def test_the_outcome_of_one_message_is_found_among_others(tmp_path: Path) -> None:
    path = tmp_path / "log"
    outcome = {"event": "delivery", "queue_id": "A", "result": "deferred", "host": "h:25"}
    path.write_text(json.dumps({"event": "delivery", "queue_id": "A", "reply": "old"}) + "\n")
    tail = LogTail(path)
    with path.open("a") as log:
        for record in (
            {"event": "delivery", "queue_id": "B"},
            {"event": "accepted", "queue_id": "A"},
        ):
            log.write(json.dumps(record) + "\n")
        log.write("no JSON\n")
        log.write(json.dumps(outcome | {"reply": "451 4.3.0 later"}) + "\n")
    found = follow(tail, "A", wait=0)
    assert found is not None
    assert describe(found) == "Deferred at h:25: 451 4.3.0 later"


def test_a_rotated_log_is_followed_to_its_successor(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("x" * 100)
    tail = LogTail(path)
    path.rename(tmp_path / "log.1")
    assert follow(tail, "A", wait=0) is None
    path.write_text('{"event": "captured", "queue_id": "A", "upstream": "u"}\n')
    assert follow(tail, "A", wait=0)
