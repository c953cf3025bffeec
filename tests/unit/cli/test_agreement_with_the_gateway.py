"""What `mailrelay up` says about the gateway, which it may not import, is what the gateway does."""

from mailrelay_gateway.queue.disk import space
from mailrelay_operator.cli.up import LOW_WATER


def test_the_low_water_mark_is_the_gateway_s() -> None:
    assert LOW_WATER == space.LOW_WATER
