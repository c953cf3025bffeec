"""Jobs and messages for tests of the queue's decisions."""

from __future__ import annotations

from mailrelay_gateway.message.envelope import Identity, Message
from mailrelay_gateway.message.route import Route
from mailrelay_gateway.queue.item import Job, Recipient

ROUTE = Route(("first", "second"))


def message(seq: int = 1, uid: str = "u", body: bytes = b"x") -> Message:
    """A message of the sender `uid`."""
    return Message(
        queue_id=f"{seq:026d}",
        envelope_sender="a@b.example",
        recipient_count=1,
        identity=Identity(namespace="n", name=uid, uid=uid, username=f"n.{uid}"),
        listener="submission",
        received_at=0.0,
        size=len(body),
        body=body,
        eight_bit=False,
    )


def job(
    seq: int = 1,
    uid: str = "u",
    *recipients: Recipient,
    route: Route = ROUTE,
    upstream: str = "first",
    body: bytes = b"x",
) -> Job:
    """A leased job, of one recipient if none are given."""
    return Job(
        seq, message(seq, uid, body), route, recipients or (Recipient(0, "c@d.example"),), upstream
    )
