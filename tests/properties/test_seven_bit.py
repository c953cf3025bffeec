"""A message made 7-bit says what it said: every leaf decodes to the same octets, for Python's
email, whatever its parts call themselves and however its octets are cut.
"""

from __future__ import annotations

import email
from base64 import b64encode
from collections.abc import Sequence
from email.message import Message

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mailrelay_gateway.message.mime.seven_bit import (
    Needs,
    SignatureWouldBreak,
    Unconvertible,
    seven_bit,
    survey,
)

MAX_LINE = 998

#: Lines that programs have stumbled over: dots, blanks at the end, boundaries' beginnings, escapes.
LINES = st.one_of(
    st.sampled_from(
        [
            b"",
            b".",
            b"..",
            b"--",
            b"--b",
            b"--b0x",
            b"-- ",
            b"From here",
            b"trailing \t",
            b"=",
            b"=3D=3d=zz",
            b"soft=",
            "Grüße aus Köln".encode(),
            "日本語".encode(),
            b"\xff\xfe latin \xe4",
            b"QUJD",
            b"QUI=",
            b"begin 644 x",
        ]
    ),
    st.builds(
        lambda piece, times: piece * times,
        st.sampled_from([b"x", b"blank ", "ä".encode(), b"=3D", b"\t"]),
        st.sampled_from([77, 998, 999, 20_000]),
    ),
    st.binary(max_size=120).map(
        lambda octets: bytes(octet for octet in octets if octet not in (0, 10, 13))
    ),
)
BODIES = st.lists(LINES, max_size=8).map(b"\r\n".join)
ENCODINGS = st.sampled_from(
    [None, b"7bit", b"8bit", b"binary", b"8-BIT", b"utf-8", b"quoted-printable"]
)
LEAF_TYPES = st.sampled_from(
    [
        None,
        b"text/plain; charset=utf-8",
        b'text/html;\r\n charset="iso-8859-1"',
        b"application/octet-stream",
        b"image/png; name=x.png",
    ]
)


def _part(kind: bytes | None, encoding: bytes | None, body: bytes) -> bytes:
    header = b"" if kind is None else b"Content-Type: " + kind + b"\r\n"
    if encoding is not None:
        header += b"Content-Transfer-Encoding: " + encoding + b"\r\n"
    return header + b"\r\n" + body


def _base64(octets: bytes, length: int) -> bytes:
    """Base64 in lines of this length."""
    encoded = b64encode(octets)
    return b"\r\n".join(encoded[at : at + length] for at in range(0, len(encoded), length))


LEAVES = st.one_of(
    st.builds(_part, LEAF_TYPES, ENCODINGS, BODIES),
    st.builds(
        lambda octets, length: _part(b"image/png", b"base64", _base64(octets, length)),
        st.binary(max_size=2000),
        st.sampled_from([60, 76, 998, 1004, 5000]),
    ),
)


def _multipart(kind: bytes, encoding: bytes | None, number: int, parts: Sequence[bytes]) -> bytes:
    boundary = b"b%d" % number
    body = b"".join(b"--" + boundary + b"\r\n" + part + b"\r\n" for part in parts)
    return _part(
        b"multipart/" + kind + b'; boundary="' + boundary + b'"',
        encoding,
        b"A preamble\r\n" + body + b"--" + boundary + b"--\r\n",
    )


def _message(inner: bytes) -> bytes:
    return _part(b"message/rfc822", None, b"Subject: inside\r\n" + inner)


def _inside(parts: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    return st.one_of(
        st.builds(
            _multipart,
            st.sampled_from([b"mixed", b"alternative", b"related"]),
            st.sampled_from([None, b"7bit", b"8bit"]),
            st.integers(min_value=0, max_value=10_000),
            st.lists(parts, min_size=1, max_size=4),
        ),
        parts.map(_message),
    )


PARTS = st.recursive(LEAVES, _inside, max_leaves=6)
MESSAGES = PARTS.map(lambda part: b"From: a@example.com\r\nMIME-Version: 1.0\r\n" + part + b"\r\n")


def cut(octets: bytes, sizes: Sequence[int]) -> list[bytes]:
    """The octets in pieces of these sizes, again and again."""
    pieces, at, turn = [], 0, 0
    while at < len(octets):
        size = sizes[turn % len(sizes)] if sizes else len(octets)
        pieces.append(octets[at : at + size])
        at += size
        turn += 1
    return pieces


def leaves(message: bytes) -> list[tuple[str, bytes | None]]:
    """Type and decoded content of every leaf."""
    found: list[tuple[str, bytes | None]] = []

    def visit(part: Message) -> None:
        if part.is_multipart():
            for inner in part.get_payload():
                assert isinstance(inner, Message)
                visit(inner)
        else:
            content = part.get_payload(decode=True)
            assert content is None or isinstance(content, bytes)
            found.append((part.get_content_type(), content))

    visit(email.message_from_bytes(message))
    return found


def converted(message: bytes, sizes: Sequence[int] = (), needs: Needs | None = None) -> bytes:
    pieces = cut(message, sizes)
    return b"".join(seven_bit(pieces, survey(pieces, needs or Needs())))


@settings(max_examples=150, suppress_health_check=list(HealthCheck), deadline=None)
@given(message=MESSAGES, sizes=st.lists(st.integers(min_value=1, max_value=5000), max_size=4))
def test_every_leaf_decodes_as_before(message: bytes, sizes: list[int]) -> None:
    after = converted(message, sizes)
    assert after.isascii()
    assert all(len(line) <= MAX_LINE for line in after.split(b"\r\n"))
    assert leaves(after) == leaves(message)
    assert converted(message) == after, "however its octets are cut"
    assert converted(after) == after, "what is 7-bit stays as it is"


@settings(max_examples=60, suppress_health_check=list(HealthCheck), deadline=None)
@given(message=MESSAGES)
def test_for_a_server_with_8bitmime_only_long_lines_are_encoded(message: bytes) -> None:
    after = converted(message, needs=Needs(bodies=False))
    assert all(len(line) <= MAX_LINE for line in after.split(b"\r\n"))
    assert leaves(after) == leaves(message)
    if all(len(line) <= MAX_LINE for line in message.split(b"\r\n")):
        assert after == message


@settings(max_examples=100, suppress_health_check=list(HealthCheck), deadline=None)
@given(octets=st.binary(max_size=3000), sizes=st.lists(st.integers(1, 200), max_size=3))
def test_whatever_comes_is_converted_or_refused(octets: bytes, sizes: list[int]) -> None:
    pieces = cut(octets, sizes)
    try:
        found = survey(pieces)
    except Unconvertible:
        return
    assert b"".join(seven_bit(pieces, found)).isascii()


@settings(max_examples=60, suppress_health_check=list(HealthCheck), deadline=None)
@given(
    before=st.lists(LEAVES, max_size=2),
    sealed=PARTS,
    kind=st.sampled_from([b"signed", b"encrypted"]),
)
def test_no_octet_of_a_sealed_part_changes(before: list[bytes], sealed: bytes, kind: bytes) -> None:
    inside = _multipart(kind, None, 77_777, [sealed])
    message = b"MIME-Version: 1.0\r\n" + _multipart(b"mixed", None, 88_888, [*before, inside])
    try:
        after = converted(message)
    except SignatureWouldBreak:
        bare = inside.partition(b"\r\n\r\n")[2]
        assert not bare.isascii() or any(len(line) > MAX_LINE for line in bare.split(b"\r\n"))
        return
    assert inside in after


@pytest.mark.parametrize("outer", [False, True])
@pytest.mark.parametrize("text", ["Grüße, und sonst nichts".encode(), b"x" * 1500])
def test_the_text_of_a_multipart_without_boundaries_is_not_left_out(
    text: bytes, outer: bool
) -> None:
    message = b"Content-Type: multipart/mixed; boundary=never\r\n\r\n" + text + b"\r\n"
    if outer:
        head = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n"
        message = head + message + b"--b\r\n\r\nplain\r\n--b--\r\n"
    with pytest.raises(Unconvertible, match="has no part"):
        converted(message)


def test_a_preamble_is_left_out() -> None:
    head = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
    message = head + "für alte Programme\r\n--b\r\n\r\nGrüße\r\n--b--\r\n".encode()
    assert converted(message).isascii()
