"""Properties of the SMTP client: octets may be cut anywhere, bodies come out as they went in."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from mailrelay_gateway.contract.documents import TlsMode
from mailrelay_gateway.smtp.client.body import BodyEncoder, encode_body
from mailrelay_gateway.smtp.client.client import ClientSettings, SmtpClient
from mailrelay_gateway.smtp.client.events import Event, SendBody, SessionReady, TransactionEnded
from mailrelay_gateway.smtp.client.replies import ReplyError, ReplyReader
from mailrelay_gateway.smtp.client.states import State

LINES = st.one_of(
    st.sampled_from(
        [
            b"220 hi\r\n",
            b"250 ok\r\n",
            b"250-sink\r\n250-PIPELINING\r\n250-STARTTLS\r\n250 AUTH PLAIN LOGIN\r\n",
            b"250 2.1.0 Ok\r\n",
            b"354 go\r\n",
            b"334 VXNlcm5hbWU6\r\n",
            b"235 in\r\n",
            b"421 bye\r\n",
            b"450 4.2.1 later\r\n",
            b"550-5.1.1 no\r\n550 5.1.1 such user\r\n",
            b"503 what\r\n",
            b"221 bye\r\n",
        ]
    ),
    st.binary(max_size=12),
)
PIECES = st.lists(st.sampled_from([b"a", b"\r\n", b".", b"\r", b"\n", b"..\r\n"]), max_size=40)


def owned(
    turns: list[bytes], *, bytewise: bool, **settings: Any
) -> tuple[list[Event], list[bytes]]:
    """Events and octets sent when the owner does what events ask for, turn by turn."""
    client = SmtpClient(ClientSettings(hostname="h", clear_login=True, **settings))
    events: list[Event] = []
    sent: list[bytes] = []
    if client.state is State.TLS:
        client.tls_established()
    for turn in turns:
        pieces = [bytes((octet,)) for octet in turn] if bytewise else [turn]
        new = [event for piece in pieces for event in client.receive(piece)]
        events += new
        for event in new:
            if isinstance(event, SendBody) and client.state is State.BODY:
                client.send_body(b"x\r\n")
            if isinstance(event, SessionReady | TransactionEnded) and client.state is State.READY:
                client.begin("a@b", ["c@d", "e@f"], size=3, eight_bit=False, smtputf8=False)
        if client.state is State.TLS:
            client.tls_established()
        sent.append(client.take_output())
    return events, sent


@given(
    turns=st.lists(st.lists(LINES, max_size=5).map(b"".join), max_size=8),
    tls=st.sampled_from(TlsMode),
    username=st.sampled_from(["", "user"]),
)
def test_cutting_octets_changes_nothing(turns: list[bytes], tls: TlsMode, username: str) -> None:
    """However the octets between two turns are cut, events and octets sent are the same."""
    settings = {"tls": tls, "username": username, "password": username}
    whole = owned(turns, bytewise=False, **settings)
    cut = owned(turns, bytewise=True, **settings)
    assert cut == whole


@given(octets=st.lists(LINES, max_size=10).map(b"".join))
def test_replies_do_not_depend_on_how_octets_are_cut(octets: bytes) -> None:
    """The reader gives the same replies, and finds the same defect, whole and octet by octet."""

    def read(pieces: list[bytes]) -> tuple[list[object], bool]:
        reader = ReplyReader()
        replies: list[object] = []
        for piece in pieces:
            try:
                replies += reader.receive(piece)
            except ReplyError as error:
                return replies + list(error.before), True
        return replies, False

    assert read([bytes((octet,)) for octet in octets]) == read([octets])


@given(octets=st.lists(LINES, max_size=12).map(b"".join))
def test_no_server_can_break_the_client(octets: bytes) -> None:
    """Whatever a server sends, the client raises nothing, and is silent after the session ended."""
    client = SmtpClient(ClientSettings(hostname="h", tls=TlsMode.NONE))
    for event in client.receive(octets):
        if isinstance(event, SessionReady) and client.state is State.READY:
            client.begin("a@b", ["c@d"], size=3, eight_bit=False, smtputf8=False)
    client.receive(octets)
    if client.state is State.CLOSED:
        assert client.receive(b"250 ok\r\n") == []
        assert client.take_output() == b""


def unstuff(octets: bytes) -> bytes:
    """A server's side of RFC 5321 section 4.5.2: the body up to the first lone dot."""
    body = b""
    for line in octets.split(b"\r\n"):
        if line == b".":
            return body
        body += line.removeprefix(b".") + b"\r\n"
    raise AssertionError("no final dot")


@given(pieces=PIECES)
def test_a_server_gets_the_body_as_it_was(pieces: list[bytes]) -> None:
    """A server that takes off the dots has the body, ended by CRLF, and nothing behind the final
    dot.
    """
    body = b"".join(pieces)
    encoded = encode_body(body)
    expected = body if not body or body.endswith(b"\r\n") else body + b"\r\n"
    assert unstuff(encoded) == expected
    assert (b"\r\n" + encoded).count(b"\r\n.\r\n") == 1
    assert encoded.endswith(b".\r\n")


@given(pieces=PIECES)
def test_a_body_in_chunks_is_encoded_as_a_whole_one(pieces: list[bytes]) -> None:
    """Encoding chunk by chunk gives the same octets as encoding at once, wherever the cuts are."""
    encoder = BodyEncoder()
    encoded = b"".join(map(encoder.encode, pieces)) + encoder.finish()
    assert encoded == encode_body(b"".join(pieces))


@given(st.lists(st.sampled_from([b"A: b\r\n", b" folded\r\n"]), max_size=3), PIECES)
def test_what_stands_in_front_is_encoded_with_the_body(
    lines: list[bytes], pieces: list[bytes]
) -> None:
    prelude, body = b"".join(lines), b"".join(pieces)
    assert encode_body(body, prelude) == encode_body(prelude + body)
