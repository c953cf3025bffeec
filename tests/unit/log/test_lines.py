"""A line of the log is JSON and at most 8 KiB, whatever is logged."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailrelay_gateway.contract.log_lines import MAX_LINE, shorten
from mailrelay_gateway.log import _render

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3000),
    lambda inner: (
        st.lists(inner, max_size=300) | st.dictionaries(st.text(max_size=20), inner, max_size=5)
    ),
    max_leaves=50,
)


def line(**fields: object) -> dict[str, object]:
    octets = _render(None, "info", {"event": "accepted", **fields})
    assert len(octets) < MAX_LINE
    assert b"\n" not in octets
    found: dict[str, object] = json.loads(octets)
    assert found["event"] == "accepted"
    return found


def test_a_short_line_is_left_as_it_is() -> None:
    found = line(recipients=["a@example.net"] * 100, size=5)
    assert found["recipients"] == ["a@example.net"] * 100
    assert "recipient_count" not in found


def test_a_long_list_is_counted_and_cut() -> None:
    found = line(queue_id="X" * 26, recipients=[f"someone-{n:05}@example.net" for n in range(1000)])
    shown = found["recipients"]
    assert isinstance(shown, list)
    assert shown[0] == "someone-00000@example.net"
    assert 100 < len(shown) < 300
    assert found["recipient_count"] == 1000
    assert found["queue_id"] == "X" * 26


def test_a_long_text_keeps_its_beginning_and_a_traceback_its_end() -> None:
    assert str(line(reply="421 " + "busy " * 10_000)["reply"]).startswith("421 busy ")
    error = ValueError("the cause" + " and" * 10_000 + " the end")
    assert str(line(exc_info=error)["exception"]).endswith("the end")


@pytest.mark.parametrize("value", ["\ud800", 1 << 70, {1: {"\udfff"}}, b"\xff" * 9000, object()])
def test_nothing_that_is_logged_raises(value: object) -> None:
    assert "value" in line(value=value)


def test_an_event_that_is_no_word_is_cut_too() -> None:
    assert len(shorten({"time": "t", "level": "info", "event": "e" * 90_000})) < MAX_LINE


@given(st.dictionaries(st.text(max_size=20).filter(lambda name: name != "event"), VALUES))
def test_no_line_is_longer_than_8_kib(fields: dict[str, object]) -> None:
    fields.pop("exc_info", None)
    octets = _render(None, "info", {"event": "accepted", **fields})
    assert len(octets) < MAX_LINE
    json.loads(octets)


def test_very_many_fields_are_cut_too() -> None:
    fields = {f"field-{n:05}": "x" for n in range(10_000)}
    found = json.loads(shorten({"time": "t", "level": "info", "event": "e", **fields}))
    assert found["event"] == "e"
    assert found["field-00000"] == "x"
    assert found["cut"] is True
