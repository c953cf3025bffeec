"""A TLS failure of `mailrelay send` comes with the remedy for this very failure."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from tests.integration.standalone.conftest import Relay, mailrelay
from tests.peers.certificates import make
from tests.waiting import PATIENCE

Serve = Callable[[socket.socket], None]


@contextlib.contextmanager
def serving(serve: Serve) -> Iterator[int]:
    """One connection at a port of this machine, served in a thread."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(PATIENCE)

        def run() -> None:
            with contextlib.suppress(OSError):
                client, _ = listening.accept()
                with client:
                    client.settimeout(PATIENCE)
                    serve(client)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            thread.join(PATIENCE)


def with_certificate(folder: Path, **kind: object) -> Serve:
    """A server with STARTTLS and a certificate of this kind."""
    chain, key = make(**kind)  # type: ignore[arg-type]
    (folder / "chain.pem").write_text(chain)
    (folder / "key.pem").write_text(key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "chain.pem", folder / "key.pem")

    def serve(client: socket.socket) -> None:
        client.sendall(b"220 here\r\n")
        client.recv(1000)
        client.sendall(b"250-here\r\n250 STARTTLS\r\n")
        client.recv(1000)
        client.sendall(b"220 go\r\n")
        with contextlib.suppress(OSError), context.wrap_socket(client, server_side=True) as tls:
            tls.recv(1)

    return serve


def refusal(url: str, *more: object) -> str:
    done = mailrelay(
        "send", "--url", url, "--from", "a@example.com", "--to", "b@example.net", *more
    )
    assert done.returncode == 1, done.stderr
    refused, remedy = done.stderr.splitlines()
    assert refused.startswith("Refused at ")
    return remedy


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ({}, "The certificate is self-signed: save it to a file and pass that with --ca FILE."),
    ],
)
def test_a_certificate_that_is_not_trusted(tmp_path: Path, kind: object, said: str) -> None:
    assert isinstance(kind, dict)
    with serving(with_certificate(tmp_path, **kind)) as port:
        assert said in refusal(f"smtp://u:p@localhost:{port}")


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (
            {"names": ("elsewhere.example",)},
            "Connect with a host name that the certificate is valid for.",
        ),
        ({"starts": timedelta(days=1)}, "Wait until the certificate is valid, or correct this"),
        (
            {"starts": timedelta(days=-9), "ends": timedelta(days=-1)},
            "Renew the server's certificate, or correct this machine's clock.",
        ),
    ],
)
def test_a_certificate_that_is_trusted_and_no_good(tmp_path: Path, kind: object, said: str) -> None:
    assert isinstance(kind, dict)
    with serving(with_certificate(tmp_path, **kind)) as port:
        remedy = refusal(f"smtp://u:p@localhost:{port}", "--ca", tmp_path / "chain.pem")
        assert said in remedy


def test_the_ca_of_somebody_else(relay: Relay, tmp_path: Path) -> None:
    (tmp_path / "other.pem").write_text(make()[0])
    remedy = refusal(f"smtp://u:p@127.0.0.1:{relay.port}", "--ca", tmp_path / "other.pem")
    assert "The certificate was not issued by" in remedy


def test_a_relay_s_own_ca_that_was_not_given(relay: Relay) -> None:
    remedy = refusal(f"smtp://u:p@127.0.0.1:{relay.port}")
    assert "Trust the relay's own CA with --ca FILE" in remedy


def test_smtps_at_a_port_with_starttls(relay: Relay) -> None:
    remedy = refusal(f"smtps://u:p@127.0.0.1:{relay.port}")
    assert "use smtp:// (STARTTLS) instead of smtps://" in remedy


def test_smtp_at_a_port_that_waits_for_a_handshake() -> None:
    with serving(lambda client: client.close()) as port:
        assert "try smtps:// instead of smtp://" in refusal(f"smtp://u:p@127.0.0.1:{port}")


def test_a_server_without_tls() -> None:
    def serve(client: socket.socket) -> None:
        client.sendall(b"220 here\r\n")
        client.recv(1000)
        client.sendall(b"250 here\r\n")
        client.recv(1000)

    with serving(serve) as port:
        assert "submits over TLS only" in refusal(f"smtp://u:p@127.0.0.1:{port}")


def test_a_host_that_is_not_there() -> None:
    # No resolver is asked for a name with an empty label.
    assert "Check the host name a..b." in refusal("smtp://u:p@a..b:25")


@pytest.mark.parametrize("content", [None, "junk"])
def test_a_ca_file_that_cannot_be_used_is_said_before_anything_is_sent(
    tmp_path: Path, content: str | None
) -> None:
    if content is not None:
        (tmp_path / "ca.pem").write_text(content)
    done = mailrelay(
        *("send", "--url", "smtp://u:p@127.0.0.1:1", "--ca", tmp_path / "ca.pem"),
        *("--from", "a@example.com", "--to", "b@example.net"),
    )
    assert done.returncode == 2
    assert done.stderr.startswith("mailrelay: --ca: ")
    assert len(done.stderr.splitlines()) == 1
