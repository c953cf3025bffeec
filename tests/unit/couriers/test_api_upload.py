"""Property: an upload is its head, the base64 of the whole message, and its tail, and as long as it
said, however the message's octets are cut up.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailrelay_gateway.couriers.api.upload import CHUNK, Upload


@dataclass
class Stored:
    """A stored body that comes in pieces of these sizes."""

    octets: bytes
    cut: int

    @property
    def size(self) -> int:
        return len(self.octets)

    def chunks(self, octets: int) -> Iterator[bytes]:
        for start in range(0, len(self.octets), self.cut):
            yield self.octets[start : start + self.cut]


@given(
    head=st.binary(max_size=20),
    prelude=st.binary(max_size=50),
    body=st.binary(max_size=300),
    repeated=st.integers(1, 1200),
    cut=st.integers(1000, 2 * CHUNK),
    tail=st.binary(max_size=5),
    stored=st.booleans(),
)
def test_the_whole_message_is_in_it(
    head: bytes, prelude: bytes, body: bytes, repeated: int, cut: int, tail: bytes, stored: bool
) -> None:
    content = body * repeated
    upload = Upload(
        head=head,
        prelude=prelude,
        body=Stored(content, cut) if stored else content,
        size=len(prelude) + len(content),
        tail=tail,
    )
    whole = b"".join(upload.pieces())
    assert whole == head + b64encode(prelude + content) + tail
    assert upload.octets == len(whole)
    assert upload.sha256() == hashlib.sha256(whole).hexdigest()
    assert upload.blocking is stored


def test_a_message_of_another_length_is_never_sent_whole() -> None:
    upload = Upload(head=b"{", prelude=b"", body=b"abc", size=4, tail=b"}")
    with pytest.raises(OSError, match="has 3 octets, 4 were stored"):
        list(upload.pieces())
