"""What the kernel is asked to do for a connection."""

from __future__ import annotations

import socket

from mailrelay_gateway.couriers.smtp.sockets import unsent, watch_over


def test_a_host_that_vanishes_costs_a_minute() -> None:
    with socket.socket() as sock:
        watch_over(sock)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 60_000
        idle, interval, count = (
            sock.getsockopt(socket.IPPROTO_TCP, option)
            for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
        )
        assert idle + interval * count == 60


def test_what_the_other_side_has_not_taken_is_seen() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        sock = socket.create_connection(listening.getsockname())
        with sock, listening.accept()[0] as taken:
            assert unsent(sock) == 0
            sock.setblocking(False)
            sent = sock.send(b"x" * 50_000_000)
            assert 0 < unsent(sock) <= sent
            taken.shutdown(socket.SHUT_RD)
    assert unsent(sock) == 0, "closed"
