"""Durations and sizes: text to seconds and octets."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailrelay_operator.api.quantities import (
    DURATION_PATTERN,
    MAX_DURATION_LENGTH,
    MAX_QUANTITY_LENGTH,
    QUANTITY_PATTERN,
    Duration,
    Quantity,
    parse_duration,
    parse_quantity,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0s", 0),
        ("90s", 90),
        ("10m", 600),
        ("1h30m", 5400),
        ("1h30m10s250ms", 5410.25),
        ("5ms", 0.005),
    ],
)
def test_a_duration_is_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)
    assert Duration(text).seconds == pytest.approx(seconds)
    assert Duration(text) == text


@pytest.mark.parametrize(
    "text", ["", "5", "5d", "-5s", "1.5h", "5 s", "123456s", "1s1s1s1s1s", "5s\n", "٥s"]
)
def test_anything_else_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="Write a duration as in"):
        parse_duration(text)
    with pytest.raises(ValueError):
        Duration(text)


@pytest.mark.parametrize(
    ("text", "octets"),
    [
        ("0", 0),
        ("25Mi", 25 * 2**20),
        ("10Gi", 10 * 2**30),
        ("1k", 1000),
        ("1.5Gi", 3 * 2**29),
        ("0.001", 1),
        ("2T", 2 * 10**12),
    ],
)
def test_a_size_is_octets(text: str, octets: int) -> None:
    assert parse_quantity(text) == Quantity(text).octets == octets


@pytest.mark.parametrize(
    "text", ["", "Mi", "25MB", "25 Mi", "1e3", "100m", "-1Gi", "1.Gi", "1Gi\n"]
)
def test_anything_else_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="Write a size as in"):
        parse_quantity(text)


@given(st.text(alphabet="0123456789hms.kKMGTi \n", max_size=30))
def test_the_pattern_of_the_schema_and_the_parser_agree(text: str) -> None:
    """Whatever the text, the parser takes it exactly if the schema's pattern matches it."""
    for parse, pattern in ((parse_duration, DURATION_PATTERN), (parse_quantity, QUANTITY_PATTERN)):
        matches = re.fullmatch(pattern.strip("^$"), text) is not None
        try:
            parse(text)
        except ValueError:
            assert not matches
        else:
            assert matches


@given(st.from_regex(DURATION_PATTERN.replace("$", r"\Z")))
def test_every_duration_fits_its_bound(text: str) -> None:
    """No text that matches the pattern is longer than the schema's maxLength."""
    assert len(text) <= MAX_DURATION_LENGTH


@given(st.from_regex(QUANTITY_PATTERN.replace("$", r"\Z")))
def test_every_size_fits_its_bound(text: str) -> None:
    """No text that matches the pattern is longer than the schema's maxLength, or 2^63 octets."""
    assert len(text) <= MAX_QUANTITY_LENGTH
