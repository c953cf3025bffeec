"""What docs/adr/0002 says of aiosmtpd's PROXY parser: properties to rely on, and two to guard."""

from __future__ import annotations

import asyncio
import struct
from typing import Any

from aiosmtpd.proxy_protocol import get_proxy
from hypothesis import given
from hypothesis import strategies as st

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
ADDRESSES = bytes([192, 0, 2, 7, 192, 0, 2, 1]) + struct.pack("!HH", 40000, 25)
BEHIND = b"EHLO client.example.org\r\n"


def v2(command: int, tail: bytes, family: int = 0x11) -> bytes:
    return SIGNATURE + struct.pack("!BBH", 0x20 | command, family, len(tail)) + tail


async def parse(octets: bytes, *, bytewise: bool = False) -> tuple[Any, bytes]:
    """What the parser says of these octets, then the end; and what it left unread."""
    reader = asyncio.StreamReader()
    parsing = asyncio.ensure_future(get_proxy(reader))
    for n in range(0, len(octets), 1 if bytewise else len(octets) or 1):
        reader.feed_data(octets[n : n + 1] if bytewise else octets)
        if bytewise:
            await asyncio.sleep(0)
    reader.feed_eof()
    return await parsing, await reader.read()


@given(st.binary(max_size=80), st.booleans())
def test_a_v2_header_is_read_to_its_end_and_no_further(extra: bytes, bytewise: bool) -> None:
    """The length decides, whatever the TLVs are; what follows is the client's."""
    found, left = asyncio.run(parse(v2(1, ADDRESSES + extra) + BEHIND, bytewise=bytewise))
    assert found.valid and str(found.src_addr) == "192.0.2.7" and left == BEHIND


@given(st.booleans())
def test_a_v1_header_is_read_to_its_end_and_no_further(bytewise: bool) -> None:
    """The line's end decides."""
    lines = {b"PROXY TCP4 192.0.2.7 192.0.2.1 40000 25\r\n": "192.0.2.7"}
    lines[b"PROXY UNKNOWN\r\n"] = "None"
    for line, source in lines.items():
        found, left = asyncio.run(parse(line + BEHIND, bytewise=bytewise))
        assert found.valid and str(found.src_addr) == source and left == BEHIND


@given(st.sampled_from([b"", b"PROXY ", SIGNATURE, SIGNATURE + b"\x21\x11"]), st.binary())
def test_nothing_is_raised_but_the_end_of_the_first_five_octets(start: bytes, rest: bytes) -> None:
    """Whatever comes: a verdict, or IncompleteReadError."""
    try:
        asyncio.run(parse(start + rest))
    except asyncio.IncompleteReadError:
        assert len(start + rest) < 5


def test_a_health_check_comes_with_addresses_that_the_caller_must_not_believe() -> None:
    found, _ = asyncio.run(parse(v2(0, ADDRESSES)))
    assert found.valid and found.command == 0 and str(found.src_addr) == "192.0.2.7"


def test_a_v2_header_of_64_kib_is_taken_and_kept_so_that_the_caller_must_bound_it() -> None:
    found, _ = asyncio.run(parse(v2(1, ADDRESSES + bytes(60_000))))
    assert found.valid and len(found.whole_raw) > 60_000
