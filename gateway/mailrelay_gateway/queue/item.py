"""A recipient's life in the queue: its states, and which outcome leads where. Pure.

READY ──lease──> LEASED ──delivered──> (removed)
  ^                │ ├──failed──────> (dead letter)
  │<──held─────────┤ ├──deferred────> DEFERRED ──due──> READY
  │                │ └──uncertain───> UNCERTAIN ──due──> READY, bound to its upstream
  └── found LEASED at start ──> UNCERTAIN
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum

from mailrelay_gateway.message.envelope import Message, Outcome, Result
from mailrelay_gateway.queue.retry import RetryPolicy
from mailrelay_gateway.reasons import Reason


class State(IntEnum):
    """What a recipient waits for. The numbers stand in the spool and never change their meaning."""

    READY = 0  # to be tried as soon as there is room
    LEASED = 1  # an attempt may be under way
    DEFERRED = 2  # tried; waits for its next time
    UNCERTAIN = 3  # perhaps delivered; waits long, and only for the same upstream


class IllegalMove(RuntimeError):
    """A transition that the table does not have. It changes nothing."""


#: What becomes of a LEASED recipient, by the result of its attempt; None: the row goes.
AFTER_ATTEMPT: dict[Result, State | None] = {
    Result.DELIVERED: None,
    Result.FAILED: None,
    Result.DEFERRED: State.DEFERRED,
    Result.UNCERTAIN: State.UNCERTAIN,
    Result.HELD: State.READY,
}


@dataclass(frozen=True, slots=True)
class Recipient:
    """One recipient as the spool knows it. Times are Unix seconds."""

    index: int
    address: str
    attempts: int = 0
    # When the first attempt ended that counts; held time moves it on
    first_tried_at: float | None = None
    pinned: bool = False  # uncertain: no upstream but the one it was tried at


@dataclass(slots=True, eq=False)
class Job:
    """Recipients of one message that are to be tried together at one upstream.

    `body` may lie on disk only.
    """

    seq: int
    message: Message
    recipients: tuple[Recipient, ...]
    body_loaded: bool
    upstream: str = ""  # what its rows say on disk
    held_before: float = 0.0  # what the lane's held clock said when the job came to it
    kept: int = 0  # octets of its body that count against the budget

    @property
    def pinned(self) -> bool:
        """Whether it may go to no other upstream."""
        return self.recipients[0].pinned


@dataclass(frozen=True, slots=True)
class Move:
    """What becomes of one recipient: `state` None removes it; `failed` says that it goes to the
    dead letters. `outcome` is the attempt's that led here, for the notice: its reply is typed and
    names the host.
    """

    recipient: Recipient
    state: State | None
    next_at: float | None
    reason: Reason
    reply: str
    failed: bool = False
    outcome: Outcome | None = None


def decide_move(
    recipient: Recipient, outcome: Outcome, *, now: float, policy: RetryPolicy, jitter: float
) -> Move:
    """The next state of a recipient whose leased attempt came to `outcome`; `jitter` is random in
    [0, 1).

    A deferral that comes later than the policy's `give_up_after` since the first attempt ends as a
    failure. Raises IllegalMove for a result that the table does not have.
    """
    if outcome.result not in AFTER_ATTEMPT:
        raise IllegalMove(f"recipient {recipient.index}: {outcome.result}")
    state = AFTER_ATTEMPT[outcome.result]
    reply = str(outcome.reply) if outcome.reply else outcome.detail
    if state is None:
        failed = outcome.result is Result.FAILED
        return Move(recipient, None, None, outcome.reason, reply, failed, outcome)
    if state is State.READY:
        return Move(recipient, state, None, outcome.reason, reply, outcome=outcome)
    first = recipient.first_tried_at if recipient.first_tried_at is not None else now
    tried = replace(
        recipient,
        attempts=recipient.attempts + 1,
        first_tried_at=first,
        pinned=recipient.pinned or state is State.UNCERTAIN,
    )
    if policy.charged(now - first, tried.attempts) >= policy.give_up_after:
        return Move(tried, None, None, Reason.GAVE_UP, reply, failed=True, outcome=outcome)
    if state is State.UNCERTAIN:
        delay = policy.uncertain_delay(tried.attempts, jitter)
    else:
        delay = policy.delay(tried.attempts, jitter)
    return Move(tried, state, now + delay, outcome.reason, reply, outcome=outcome)
