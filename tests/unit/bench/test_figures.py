"""What the benchmark makes of its measurements."""

import pytest

from tests.bench.figures import (
    Measured,
    Paired,
    against_table,
    as_json,
    middle,
    multiples,
    paired,
    table,
    turns,
)


def measured(rate: float, cpu_ms: float) -> Measured:
    return Measured(rate=rate, cpu_ms=cpu_ms, memory_mib=50)


def test_the_median_of_each_figure_is_taken_by_itself() -> None:
    found = [measured(100, 3), measured(300, 1), measured(200, 2)]
    assert middle(found) == measured(200, 2)


def test_paired_ratios_cancel_what_disturbs_both_of_a_pair() -> None:
    # The machine is three times slower in the second round: the ratio stays 2 in each.
    ours = [measured(1, 2.0), measured(1, 6.0), measured(1, 2.2)]
    theirs = [measured(1, 1.0), measured(1, 3.0), measured(1, 1.0)]
    ratio = paired(ours, theirs, lambda m: m.cpu_ms)
    assert ratio == Paired(median=2.0, lowest=2.0, highest=2.2)
    # Medians of each side by itself would have said 2.2.
    assert middle(ours).cpu_ms / middle(theirs).cpu_ms == 2.2


def test_a_round_that_only_one_side_has_is_an_error() -> None:
    with pytest.raises(ValueError, match="zip"):
        paired([measured(1, 1)], [], lambda m: m.rate)


@pytest.mark.parametrize(
    ("rounds", "expected"), [(1, "AB"), (2, "ABBA"), (3, "ABBAAB"), (4, "ABBAABBA")]
)
def test_the_order_turns_with_each_round(rounds: int, expected: str) -> None:
    assert "".join(turns(["A", "B"], rounds)) == expected


def test_multiples_are_of_the_same_round() -> None:
    by_relay = {
        "mailrelay": [measured(50, 3), measured(25, 6)],
        "floor": [measured(100, 1), measured(50, 2)],
    }
    rate, cpu = multiples(by_relay, "floor")["mailrelay"]
    assert (rate.median, cpu.median) == (0.5, 3.0)
    assert multiples(by_relay, "postfix") == {}


def test_the_table_shows_each_figure_as_a_multiple_too() -> None:
    text = table(
        {
            "4 KB": {
                "mailrelay": [measured(3000, 0.3)],
                "floor": [measured(9000, 0.1)],
                "postfix": [measured(600, 2.4)],
            }
        }
    )
    head, row, ours, floor, postfix = text.splitlines()
    assert " ".join(head.split()) == (
        "messages/s x floor x Postfix CPU ms/message x floor x Postfix peak MiB"
    )
    assert row == "4 KB"
    assert ours.split() == ["mailrelay", "3000", "0.33", "5.00", "0.300", "3.00", "0.12", "50"]
    assert floor.split() == ["floor", "9000", "1.00", "15.00", "0.100", "1.00", "0.04", "50"]
    assert postfix.split() == ["postfix", "600", "0.07", "1.00", "2.400", "24.00", "1.00", "50"]


def test_a_relay_alone_has_no_multiples() -> None:
    line = table({"4 KB": {"mailrelay": [measured(3000, 0.3)]}}).splitlines()[-1]
    assert line.split() == ["mailrelay", "3000", "-", "-", "0.300", "-", "-", "50"]


def test_two_revisions_are_shown_by_ratio_and_spread() -> None:
    text = against_table(
        {
            "4 KB": {
                "floor": [measured(9000, 0.1), measured(9000, 0.1)],
                "ours": [measured(3000, 0.3), measured(2000, 0.36)],
                "04d1e67": [measured(3000, 0.2), measured(4000, 0.3)],
            }
        },
        "ours",
        "04d1e67",
    )
    assert text.splitlines()[1].split()[-2:] == ["ours", "04d1e67"]
    assert text.splitlines()[-1].split() == (
        ["4", "KB", "1.350", "1.20..1.50", "0.750", "0.50..1.00", "3.30", "2.50"]
    )


def test_the_json_has_medians_and_multiples_with_their_spread() -> None:
    rows = as_json(
        {"4 KB": {"mailrelay": [measured(50, 3), measured(50, 5)], "floor": [measured(100, 1)] * 2}}
    )
    assert rows == {
        "4 KB": {
            "mailrelay": {
                "rate": 50,
                "cpu_ms": 4,
                "memory_mib": 50,
                "of_floor": {
                    "rate": {"median": 0.5, "lowest": 0.5, "highest": 0.5},
                    "cpu": {"median": 4.0, "lowest": 3.0, "highest": 5.0},
                },
            },
            "floor": {
                "rate": 100,
                "cpu_ms": 1,
                "memory_mib": 50,
                "of_mailrelay": {
                    "rate": {"median": 2.0, "lowest": 2.0, "highest": 2.0},
                    "cpu": {"median": pytest.approx(4 / 15), "lowest": 0.2, "highest": 1 / 3},
                },
            },
        }
    }
