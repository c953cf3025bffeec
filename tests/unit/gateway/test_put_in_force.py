"""A configuration comes into force whole, or what was in force is put back."""

from __future__ import annotations

from structlog.testing import capture_logs

from mailrelay_gateway.reload import Step, put_in_force


def test_all_steps_are_taken_in_order() -> None:
    taken: list[str] = []
    steps: list[Step] = [lambda: taken.append("queue"), lambda: taken.append("listeners")]
    assert put_in_force(steps, [lambda: taken.append("back")]) is None
    assert taken == ["queue", "listeners"]


def test_whatever_raises_all_of_the_last_one_is_put_back() -> None:
    taken: list[str] = []

    def fail() -> None:
        raise RuntimeError("a defect")

    steps: list[Step] = [lambda: taken.append("queue"), fail, lambda: taken.append("never")]
    back: list[Step] = [lambda: taken.append("queue back"), fail, lambda: taken.append("in back")]
    with capture_logs() as lines:
        failed = put_in_force(steps, back)
    assert isinstance(failed, RuntimeError)
    assert taken == ["queue", "queue back", "in back"]
    assert [line["event"] for line in lines] == ["internal_error", "internal_error"]
