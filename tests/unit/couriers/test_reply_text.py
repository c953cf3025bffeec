"""Whatever an upstream writes, reading its words raises nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailrelay_gateway.contract.stage import Stage
from mailrelay_gateway.couriers.replies.classify import classify_reply
from mailrelay_gateway.couriers.replies.reply_text import named_moment
from mailrelay_gateway.smtp.reply import Reply

QUOTA = "daily quota exceeded, "
NUMBER = st.one_of(st.integers(0, 9999).map(str), st.sampled_from(["0001", "\u0662\u0660", "9999"]))


@pytest.mark.parametrize(
    "words",
    [
        "after 0001-01-01 00:00:00 +0500",  # before the first day that there is, in UTC
        "after 9999-12-31 23:59:59 -0500",
        "after fri, 31 dec 9999 23:59 -0500",
        "until 2026-13-45 99:99:99 utc",
        "after fri, 99 foo 2026 10:00 gmt",
    ],
)
def test_a_time_that_no_clock_can_show_is_none(words: str) -> None:
    assert named_moment(words) is None


@given(
    phase=st.sampled_from([Stage.MAIL, Stage.RCPT, Stage.DATA, Stage.END_OF_MESSAGE]),
    code=st.sampled_from([421, 450, 452, 550, 554]),
    words=st.lists(
        st.one_of(
            st.text(max_size=20),
            st.sampled_from(["try again", "after", "until", "in", "seconds", "UTC", "+2359", "-"]),
            NUMBER,
            st.builds("{:0>4}-{:0>2}-{:0>2} {:0>2}:{:0>2}".format, *[NUMBER] * 5),
        ),
        max_size=12,
    ),
)
def test_no_words_are_too_odd_to_be_read(phase: Stage, code: int, words: list[str]) -> None:
    reply = Reply(code, "", QUOTA + " ".join(words))
    assert classify_reply(phase, reply).reply is reply
