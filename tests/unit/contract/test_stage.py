"""Stages are ordered by the dialog, not by the alphabet, and are text all the same."""

from __future__ import annotations

import json
from itertools import combinations

from mailrelay_gateway.contract.stage import Stage


def test_a_later_stage_is_greater() -> None:
    for earlier, later in combinations(Stage, 2):
        assert earlier < later and earlier <= later
        assert later > earlier and later >= earlier
        assert not later < earlier and not earlier > later
    assert Stage.AUTH < Stage.MAIL < Stage.DATA
    assert max(Stage) is Stage.END_OF_MESSAGE
    assert sorted([Stage.RCPT, Stage.AUTH, Stage.MAIL]) == [Stage.AUTH, Stage.MAIL, Stage.RCPT]


def test_each_is_followed_by_the_next_one_and_the_last_by_itself() -> None:
    assert Stage.MAIL.following is Stage.RCPT
    assert Stage.END_OF_MESSAGE.following is Stage.END_OF_MESSAGE


def test_it_is_the_text_that_stands_in_logs_and_labels() -> None:
    assert json.dumps(Stage.END_OF_MESSAGE) == '"end-of-message"'
    assert {str(Stage.AUTH): 1}[Stage.AUTH] == 1
