"""Our SMTP client and our server's session, over a wire that cuts octets anywhere, lets either
direction run ahead of the other, and may break at any point.
"""

from __future__ import annotations

import asyncio
import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.integration.intake.gate import USERNAME, Gate
from tests.properties.connection_pair import ChunkTalker, ConnectionPair, run

HEADER = (
    b"From: billing@example.com\r\nTo: b@example.org\r\nDate: Fri, 27 Nov 2026 12:00:00 +0000\r\n"
)
HEADER += b"Message-ID: <1@example.com>\r\n\r\n"
BODIES = st.lists(
    st.sampled_from([b"text", b".", b"..", b"\r\n", b"\r\n.\r\n", b"x" * 70]), max_size=30
).map(lambda pieces: HEADER + b"".join(pieces) + b"\r\n")


def check(pair: ConnectionPair, gate: Gate) -> None:
    """What was stored is what the client was told, whole and in order."""
    for n, transcript in enumerate(pair.told):
        final = transcript.final
        assert final is not None
        stored = [m for m in gate.intake.messages if m.envelope_sender == f"s{n}@shop.example.com"]
        assert len(stored) == (1 if final.code == 250 else 0)
        assert not stored or stored[0].queue_id in final.text
    for place, message in enumerate(gate.intake.messages):
        n = int(message.envelope_sender[1:].split("@")[0])
        # At most three, says the configuration; the others were refused, each by a reply.
        taken = pair.addresses(n)
        if n < len(pair.told):
            replies = zip(taken, pair.told[n].recipients, strict=True)
            taken = tuple(address for address, reply in replies if reply and reply.code == 250)
        assert gate.intake.recipients[place] == taken[:3]
        assert gate.intake.body(place).endswith(pair.bodies[n])
    senders = [message.envelope_sender for message in gate.intake.messages]
    assert senders == sorted(set(senders), key=senders.index)


SEEDS = st.integers(0, 2**32)


@given(st.lists(BODIES, min_size=1, max_size=4), SEEDS)
def test_what_was_stored_is_what_the_client_was_told(bodies: list[bytes], seed: int) -> None:
    """However the octets are cut, each message is stored once, whole, and answered 250."""
    pair, gate = asyncio.run(run(bodies, seed, 1 << 30))
    check(pair, gate)
    assert [t.final.code for t in pair.told if t.final] == [250] * len(bodies), "a deadlock"


@given(st.lists(BODIES, min_size=1, max_size=3), SEEDS, st.integers(0, 3000))
def test_a_wire_that_breaks_leaves_no_lie(bodies: list[bytes], seed: int, cut: int) -> None:
    """Wherever the wire breaks, 250 means stored, and at most the last message is in doubt."""
    pair, gate = asyncio.run(run(bodies, seed, cut))
    check(pair, gate)
    assert 0 <= len(gate.intake.messages) - len(pair.told) <= 1


@given(st.lists(BODIES, min_size=1, max_size=2), SEEDS)
def test_after_starttls_and_a_login_it_is_the_same(bodies: list[bytes], seed: int) -> None:
    """However the octets of a handshake and of its records are cut, each message is stored once."""
    pair, gate = asyncio.run(run(bodies, seed, 1 << 30, tls=True))
    check(pair, gate)
    assert [t.final.code for t in pair.told if t.final] == [250] * len(bodies), "a deadlock"
    assert {message.identity.username for message in gate.intake.messages} == {USERNAME}


@settings(max_examples=40)
@given(st.lists(BODIES, min_size=1, max_size=2), SEEDS, st.integers(0, 9000))
def test_a_wire_under_tls_that_breaks_leaves_no_lie(
    bodies: list[bytes], seed: int, cut: int
) -> None:
    """Wherever it breaks, within the handshake too, 250 means stored."""
    pair, gate = asyncio.run(run(bodies, seed, cut, tls=True))
    check(pair, gate)
    assert 0 <= len(gate.intake.messages) - len(pair.told) <= 1


@given(st.lists(BODIES, min_size=1, max_size=3), SEEDS, st.integers(2, 5))
def test_each_recipient_that_was_taken_gets_each_message(
    bodies: list[bytes], seed: int, recipients: int
) -> None:
    """Whom the client was told 250 for is whom the message was stored for; others are deferred."""
    pair, gate = asyncio.run(run(bodies, seed, 1 << 30, recipients=recipients))
    check(pair, gate)
    assert [t.final.code for t in pair.told if t.final] == [250] * len(bodies), "a deadlock"


def chunks(body: bytes, cuts: list[int]) -> list[bytes]:
    """The body in pieces, none of them empty: an empty chunk counts against a client."""
    places = sorted({0, len(body), *(cut % len(body) for cut in cuts)})
    return [body[a:b] for a, b in itertools.pairwise(places)]


CUTS = st.lists(st.integers(0, 5000), max_size=8)


@given(BODIES, CUTS, SEEDS)
def test_chunks_however_cut_are_one_message(body: bytes, cuts: list[int], seed: int) -> None:
    """BDAT takes each octet as it is: dots, line ends cut in two, and what looks like commands."""
    body += b"RSET\r\nBDAT 3 LAST\r\n"
    pieces = chunks(body, cuts)
    talker = ChunkTalker(pieces)
    _, gate = asyncio.run(run([], seed, 1 << 30, client=talker))
    assert [reply.code for reply in talker.replies] == [220, *[250] * (3 + len(pieces) + 1)]
    assert gate.intake.body().endswith(body)
    assert len(gate.intake.messages) == 1


@given(BODIES, CUTS, SEEDS, st.integers(0, 3000))
def test_chunks_over_a_wire_that_breaks_leave_no_lie(
    body: bytes, cuts: list[int], seed: int, cut: int
) -> None:
    """The last 250 means stored whole; without the last chunk there is nothing."""
    pieces = chunks(body, cuts)
    talker = ChunkTalker(pieces)
    _, gate = asyncio.run(run([], seed, cut, client=talker))
    told = len(talker.replies) == 1 + 3 + len(pieces) + 1
    assert {reply.code for reply in talker.replies} <= {220, 250}
    assert len(gate.intake.messages) in ((1,) if told else (0, 1))
    if gate.intake.messages:
        assert gate.intake.body().endswith(body)
