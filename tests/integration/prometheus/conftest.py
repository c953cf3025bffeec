"""What the gateway went through before Prometheus is asked."""

from __future__ import annotations

import smtplib
from collections.abc import Iterator

import pytest

from tests.integration.prometheus.rig import (
    BURST,
    Gateway,
    Prometheus,
    sum_of,
)
from tests.peers.smtp_sink import smtp_sink
from tests.ports import free_port
from tests.waiting import wait_until

#: What the gateway counts from time to time, not as it happens.
COUNTED = (
    "queue_recipients",
    "queue_messages",
    "queue_oldest_seconds",
    "queue_bytes",
    "dead_letters",
)


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Prometheus, after it has seen mail delivered, failed, deferred, held, refused and limited."""
    folder = tmp_path_factory.mktemp("gateway")
    sink_port = free_port()
    gateway = Gateway(folder, sink_port)
    prometheus = Prometheus(tmp_path_factory.mktemp("prometheus"))
    with gateway.run(), prometheus.run(gateway.admin_port):
        # Rates need a sample from before.
        wait_until(lambda: prometheus.query("mailrelay_queue_recipients"), "the first scrape")
        with smtp_sink(port=sink_port):
            send(gateway, 3)
            await_result(gateway, "delivered", 3)
        with smtp_sink("-f", "RCPT", "-B", "550 5.1.1 No such user", port=sink_port):
            send(gateway, 2)
            await_result(gateway, "failed", 4)  # the notifications fail as well
        with smtp_sink("-r", "RCPT", port=sink_port):
            send(gateway, 2)
            await_result(gateway, "deferred", 2)
        send(gateway, 1)
        wait_until(lambda: gateway.metric("upstream_up") < 2, "an upstream that is held")
        refuse(gateway)
        received = gateway.metric("received_messages_total")
        wait_until(
            lambda: (
                sum_of(prometheus.query("mailrelay_received_messages_total")) == received
                and prometheus.query("mailrelay_limit_usage_ratio > 0")
                and all(sum_of(prometheus.query(f"mailrelay_{gauge}")) for gauge in COUNTED)
                and len(prometheus.query("count_over_time(mailrelay_loop_lag_seconds[1m]) > 3"))
            ),
            "Prometheus has seen all of it",
        )
        yield prometheus


def send(gateway: Gateway, count: int) -> None:
    """Submit so many messages in one session."""
    with gateway.session() as client:
        for number in range(count):
            client.sendmail(
                "app@example.com",
                ["someone@example.net"],
                f"From: app@example.com\r\nSubject: {number}\r\n\r\nHello\r\n",
            )


def await_result(gateway: Gateway, result: str, count: int) -> None:
    """So many recipients had this result at the smarthost."""
    labels = ('upstream="smarthost"', f'result="{result}"')
    wait_until(
        lambda: gateway.metric("delivery_attempts_total", *labels) >= count,
        f"{count} times {result}",
    )


def refuse(gateway: Gateway) -> None:
    """A wrong password, an address that is not the sender's, and more than the limit allows."""
    with pytest.raises(smtplib.SMTPAuthenticationError), gateway.session("wrong"):
        pass
    with gateway.session() as client, pytest.raises(smtplib.SMTPSenderRefused):
        client.sendmail("ceo@other.example", ["someone@example.net"], "Subject: no\r\n\r\n")
    with pytest.raises(smtplib.SMTPResponseException, match="451"):
        send(gateway, BURST + 1)
