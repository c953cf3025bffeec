"""A recipient's life in the queue: its states, and which outcome leads where. Pure.

READY ──claim──> LEASED ──delivered──> (removed)
  ^                │ ├──failed──────> (dead letter)
  │<──held, split──┤ ├──deferred────> DEFERRED ──due──> READY
  │                │ └──uncertain───> UNCERTAIN ──due──> READY, bound to its upstream
  └── found LEASED at start ──> UNCERTAIN
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum

from mailrelay_gateway.message.effect import Elsewhere, Split
from mailrelay_gateway.message.envelope import Message, Outcome, Result
from mailrelay_gateway.message.route import Route
from mailrelay_gateway.message_value import message_value
from mailrelay_gateway.queue.retry import RetryPolicy
from mailrelay_gateway.reasons import Reason


class State(IntEnum):
    """The state of a recipient. The numbers are stored in the spool, so their meaning never
    changes.
    """

    READY = 0  # to be tried as soon as there is room
    LEASED = 1  # an attempt may be in progress
    DEFERRED = 2  # tried; waits until it is due
    UNCERTAIN = 3  # possibly delivered; waits long, and only for the same upstream


_DELIVERED = Result.DELIVERED  # a look-up in an enum is slow (Python 3.11)


class IllegalMove(RuntimeError):
    """A transition that is not in the table. It changes nothing."""


#: What happens to a LEASED recipient, by the result of its attempt; None: its row is removed.
AFTER_ATTEMPT: dict[Result, State | None] = {
    Result.DELIVERED: None,
    Result.FAILED: None,
    Result.DEFERRED: State.DEFERRED,
    Result.UNCERTAIN: State.UNCERTAIN,
    Result.HELD: State.READY,
}


@message_value(frozen=True, slots=True)
class Recipient:
    """One recipient as the store knows it. Times are Unix seconds."""

    index: int
    address: str
    attempts: int = 0
    first_tried_at: float | None = None  # when the first attempt that counts ended
    #: Seconds that our own schedule made it wait: what counts towards `giveUpAfter`. Not counted:
    #: time while its upstream was held, its lane was paced, its relay suspended or its gateway
    #: stopped, waits for internal errors, and changes of the clock.
    waited: float = 0.0
    pinned: bool = False  # possibly delivered: only the upstream at which it was tried


@dataclass(slots=True, eq=False)
class Job:
    """Recipients of one message that are leased for one attempt on one lane. Never stored.

    All of them are pinned, or none.
    """

    seq: int
    message: Message
    route: Route  # what is on disk
    recipients: tuple[Recipient, ...]
    upstream: str  # at which they are leased

    @property
    def pinned(self) -> bool:
        """Whether it may not use another upstream."""
        return self.recipients[0].pinned


@message_value(frozen=True, slots=True, kw_only=True)
class Move:
    """What happens to one recipient.

    `state` None removes it; `failed` sends it to the dead letters. `route` is its route from now
    on. `outcome` is the outcome of the attempt that led here, for the notice; None if no attempt
    was made.
    """

    recipient: Recipient
    state: State | None
    route: Route
    reason: Reason
    next_at: float | None = None
    reply: str = ""
    failed: bool = False
    delayed: bool = False  # and its sender is to be told, if it wants to be
    outcome: Outcome | None = None


def decide_moves(
    job: Job,
    outcomes: Sequence[Outcome],
    *,
    route_of: Callable[[Recipient], Route],
    now: float,
    policy: RetryPolicy,
    jitter: float,
) -> list[Move]:
    """The next state of each recipient of a job whose attempt ended at `now`, in the job's order.

    `route_of` gives a recipient's route in the current configuration; `jitter`, random in [0, 1),
    is one for all of them, so that those who wait equally long stay together. Raises IllegalMove
    for a result that the table does not have, and KeyError for a recipient without an outcome.
    """
    by_index = {outcome.index: outcome for outcome in outcomes}
    return [
        _decide(recipient, by_index[recipient.index], job, route_of, now, policy, jitter)
        for recipient in job.recipients
    ]


def stand_in_moves(job: Job, outcomes: Sequence[Outcome], *, next_at: float) -> list[Move]:
    """The moves of a job if deciding them raised an internal error: a delivered recipient is
    removed, one that was possibly delivered stays with its upstream, and all but the delivered ones
    wait until `next_at`, which counts for nothing.
    """
    results = {outcome.index: outcome.result for outcome in outcomes}
    return [_stand_in(each, results.get(each.index), job, next_at) for each in job.recipients]


def _stand_in(recipient: Recipient, result: Result | None, job: Job, next_at: float) -> Move:
    if result is Result.DELIVERED:
        return Move(recipient=recipient, state=None, route=job.route, reason=Reason.DELIVERED)
    if result is Result.UNCERTAIN:
        recipient = replace(recipient, pinned=True)
    return Move(
        recipient=recipient,
        state=State.UNCERTAIN if result is Result.UNCERTAIN else State.DEFERRED,
        route=job.route.pinned_to(job.upstream) if recipient.pinned else job.route,
        reason=Reason.INTERNAL_ERROR,
        next_at=next_at,
    )


def _decide(
    recipient: Recipient,
    outcome: Outcome,
    job: Job,
    route_of: Callable[[Recipient], Route],
    now: float,
    policy: RetryPolicy,
    jitter: float,
) -> Move:
    if outcome.result is _DELIVERED:  # as it mostly is
        return Move(
            recipient=recipient,
            state=None,
            route=job.route,
            reason=outcome.reason,
            outcome=outcome,
        )
    if outcome.result not in AFTER_ATTEMPT:
        raise IllegalMove(f"recipient {recipient.index}: {outcome.result}")
    state = AFTER_ATTEMPT[outcome.result]
    if state is State.DEFERRED and isinstance(outcome.effect, Split):
        state = State.READY  # too many for one transaction: next time, and not counted
    reply = str(outcome.reply) if outcome.reply else outcome.detail
    reason = outcome.reason
    rest: Route | None = None
    if state is State.DEFERRED and isinstance(outcome.effect, Elsewhere):
        rest = None if recipient.pinned else job.route.without(job.upstream)
        state = None if rest is None else State.READY
    if state is None:
        return Move(
            recipient=recipient,
            state=None,
            route=job.route,
            reason=reason,
            reply=reply,
            failed=True,
            outcome=outcome,
        )
    if state is State.READY:
        return Move(
            recipient=recipient,
            state=state,
            route=(
                job.route.pinned_to(job.upstream)
                if recipient.pinned
                else rest or route_of(recipient)
            ),
            reason=reason,
            reply=reply,
            outcome=outcome,
        )
    pinned = recipient.pinned or state is State.UNCERTAIN
    attempts = recipient.attempts + 1
    ours = outcome.reason is Reason.INTERNAL_ERROR  # no upstream was asked: it counts for nothing
    gave_up = recipient.waited >= policy.give_up_after and not ours
    delay, warn = 0.0, False
    if not gave_up:
        delay = policy.pause(outcome, attempts, jitter)
        if not ours:
            named = outcome.retry_after is not None or state is State.UNCERTAIN
            delay, warn = policy.until_warning(recipient.waited, delay, named=named)
    # Not the sum where it may differ in its last bit: the time is found again by being the same.
    waited = recipient.waited + delay
    if 0.0 < policy.warn_after - recipient.waited == delay:
        waited = policy.warn_after
    tried = replace(
        recipient,
        attempts=attempts,
        first_tried_at=now if recipient.first_tried_at is None else recipient.first_tried_at,
        waited=recipient.waited if ours else waited,
        pinned=pinned,
    )
    return Move(
        recipient=tried,
        state=None if gave_up else state,
        route=job.route.pinned_to(job.upstream) if pinned else route_of(recipient),
        reason=Reason.GAVE_UP if gave_up else reason,
        next_at=None if gave_up else now + delay,
        reply=reply,
        failed=gave_up,
        delayed=warn,
        outcome=outcome,
    )
