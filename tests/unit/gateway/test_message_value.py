"""Values that each message makes compare and hash as frozen dataclasses do."""

from __future__ import annotations

import dataclasses

import pytest

from mailrelay_gateway.couriers.replies.verdict import Meaning
from mailrelay_gateway.message.envelope import AttemptRecipient, Result
from mailrelay_gateway.reasons import Reason
from mailrelay_gateway.smtp.reply import Reply


def test_they_are_equal_and_hash_alike_by_their_fields() -> None:
    reply = Reply(250, "2.0.0", "Ok")
    assert reply == Reply(250, "2.0.0", "Ok")
    assert reply != Reply(250, "2.0.0", "ok")
    assert len({reply, Reply(250, "2.0.0", "Ok"), Reply(251, "2.0.0", "Ok")}) == 2
    delivered = Meaning(Result.DELIVERED, Reason.DELIVERED, reply)
    assert hash(delivered) == hash(Meaning(Result.DELIVERED, Reason.DELIVERED, reply))


def test_one_with_another_field_is_a_copy() -> None:
    tried = AttemptRecipient(0, "a@b.example", 1)
    assert dataclasses.replace(tried, attempts=2) == AttemptRecipient(0, "a@b.example", 2)
    assert tried.attempts == 1
    with pytest.raises(AttributeError):
        tried.other = 1  # type: ignore[attr-defined]
