"""The readers of DATA and BDAT find one end and one content, however the octets are cut."""

from __future__ import annotations

import re

from hypothesis import example, given
from hypothesis import strategies as st

from mailrelay_gateway.smtp.server.data_reader import (
    MAX_TEXT_LINE,
    ChunkReader,
    DataReader,
    has_long_line,
)

#: Octets that make trouble, and some that do not.
ALPHABET = st.sampled_from(
    [b"\r", b"\n", b".", b"\r\n", b"\r\n.", b"\r\n.\r\n", b"x", b"\0", b"\xe9"]
)
STREAMS = st.lists(ALPHABET, max_size=30).map(b"".join)
CUTS = st.lists(st.integers(1, 7), max_size=40)
SMUGGLING = [b"\n.\n", b"\n.\r\n", b"\r.\r\n", b"\r\n.\r", b"\r\r\n.\r\r\n", b"\r\n.\n", b"\r.\r"]


def reference(stream: bytes) -> tuple[bytes, bytes] | None:
    """RFC 5321 section 4.5.2 in three lines: the content and what follows the end; None: no end."""
    before, end, after = (b"\r\n" + stream).partition(b"\r\n.\r\n")
    if not end:
        return None
    return (before + b"\r\n").replace(b"\r\n.", b"\r\n")[2:], after


def pieces(stream: bytes, cuts: list[int]) -> list[bytes]:
    """The stream cut into pieces of these lengths; the rest in one."""
    found, at = [], 0
    for cut in cuts:
        found.append(stream[at : at + cut])
        at += cut
    return [*found, stream[at:]]


def read_data(parts: list[bytes]) -> tuple[bytes, bytes | None, DataReader]:
    """The content, and what was left after the end (None: it never came)."""
    reader, content = DataReader(), b""
    for number, part in enumerate(parts):
        got, after = reader.feed(part, 0)
        content += got
        if after >= 0:
            return content, part[after:] + b"".join(parts[number + 1 :]), reader
    return content, None, reader


def has_bare_newline(content: bytes) -> bool:
    return re.search(rb"(?<!\r)\n|\r(?!\n)", content) is not None


@given(STREAMS, CUTS)
@example(b".\r\n", [])
@example(b"..\r\n.\r\n", [1, 1, 1])
def test_the_content_is_the_reference_however_it_is_cut(stream: bytes, cuts: list[int]) -> None:
    """Invariant: content, end and rest are those of the reference for every way to cut
    the stream.
    """
    content, rest, reader = read_data(pieces(stream, cuts))
    expected = reference(stream)
    if expected is None:
        assert rest is None
        return
    assert (content, rest) == expected
    raw = stream[: len(stream) - len(expected[1])]
    assert reader.bare_newline == has_bare_newline(raw)
    if not reader.bare_newline:
        assert reader.nul == (b"\0" in raw)
        assert reader.eight_bit == (not raw.isascii())


@given(STREAMS, CUTS)
def test_little_is_held_back(stream: bytes, cuts: list[int]) -> None:
    """Invariant: between two feeds at most four octets are held back."""
    reader = DataReader()
    for part in pieces(stream, cuts):
        _, after = reader.feed(part, 0)
        if after >= 0:
            return
        assert len(reader._held) <= 4


@given(st.sampled_from(SMUGGLING), CUTS)
def test_nothing_else_ends_a_message(ending: bytes, cuts: list[int]) -> None:
    """Invariant: an ending that is not CRLF . CRLF ends nothing, and is noticed."""
    stream = b"a\r\n" + ending + b"MAIL FROM:<x@example.com>\r\n.\r\n"
    content, rest, reader = read_data(pieces(stream, cuts))
    assert rest == b""
    assert b"MAIL FROM" in content
    assert reader.bare_newline


@given(STREAMS, CUTS, st.lists(st.integers(0, 9), max_size=5))
def test_chunks_add_up_to_the_stream(stream: bytes, cuts: list[int], sizes: list[int]) -> None:
    """Invariant: the chunks' content is the octets sent, plus the line end that the last line
    lacks.
    """
    reader, content, at = ChunkReader(), b"", 0
    sizes = [size for size in sizes if size]
    sizes.append(max(0, len(stream) - sum(sizes)))
    for size in sizes:
        chunk = stream[at : at + size]
        at += size
        reader.start(len(chunk))
        left = len(chunk)
        for part in pieces(chunk, cuts):
            got, after = reader.feed(part, 0)
            content += got
            left -= len(part)
            assert (after >= 0) == (left == 0)
    content += reader.finish()
    sent = stream[:at]
    complete = sent.endswith((b"\n", b"\r")) or not sent
    assert content == (sent if complete else sent + b"\r\n")
    assert reader.bare_newline == has_bare_newline(sent)


def test_a_chunk_ends_where_its_size_says() -> None:
    reader = ChunkReader()
    reader.start(3)
    assert reader.feed(b"xxabcQUIT\r\n", 2) == (b"abc", 5)


def test_data_begins_where_it_is_told() -> None:
    reader = DataReader()
    assert reader.feed(b"DATA\r\nHi\r\n.\r\nQUIT\r\n", 6) == (b"Hi\r\n", 13)


@given(
    st.lists(st.integers(MAX_TEXT_LINE - 2, MAX_TEXT_LINE + 2) | st.integers(0, 90), max_size=8),
    st.lists(st.integers(1, 1200), max_size=8),
    st.booleans(),
)
@example([MAX_TEXT_LINE], [MAX_TEXT_LINE, 1], True)
@example([MAX_TEXT_LINE + 1], [MAX_TEXT_LINE + 1], False)
def test_a_long_line_is_noticed_however_it_is_cut(
    lengths: list[int], cuts: list[int], dots: bool
) -> None:
    """Invariant: a line of more than 998 octets without its CRLF, dots not doubled, is noticed, and
    no other.
    """
    lines = [(b"." if dots else b"x") * length for length in lengths]
    content = b"".join(line + b"\r\n" for line in lines)
    long_line = max(lengths, default=0) > MAX_TEXT_LINE
    assert has_long_line(content, 0) is long_line
    stuffed = (b"\r\n" + content).replace(b"\r\n.", b"\r\n..")[2:] + b".\r\n"
    got, rest, reader = read_data(pieces(stuffed, cuts))
    assert (got, rest, reader.long_line) == (content, b"", long_line)
    chunks = ChunkReader()
    for part in pieces(content[:-2], cuts):  # the last line lacks its end
        chunks.start(len(part))
        chunks.feed(part, 0)
    chunks.finish()
    assert chunks.long_line is long_line
