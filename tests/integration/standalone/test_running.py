"""`mailrelay up` over its life: restarts, edits, signals; nothing minted or accepted is lost."""

import json
import os
import shlex
import signal
import socket
from pathlib import Path

import pytest

from tests.integration.standalone.conftest import (
    Relay,
    mailrelay,
    sandbox_yaml,
)
from tests.ports import free_port
from tests.waiting import wait_until


def is_listening(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def test_password_ca_token_and_captured_mail_survive_a_restart(own_relay: Relay) -> None:
    own_relay.start()
    minted = [own_relay.hint(name) for name in ("Password", "Admin token")]
    authority = (own_relay.data / "ca.crt").read_bytes()
    mailrelay("send", "--data", own_relay.data, "--subject", "before")
    own_relay.captured("before")
    assert own_relay.stop() == 0
    own_relay.start()
    assert [own_relay.hint(name) for name in ("Password", "Admin token")] == minted
    assert (own_relay.data / "ca.crt").read_bytes() == authority
    own_relay.captured("before")
    done = mailrelay("send", "--data", own_relay.data, "--subject", "after")
    assert done.returncode == 0, done.stderr


def test_an_edit_acts_at_once_and_a_broken_one_changes_nothing(own_relay: Relay) -> None:
    own_relay.start()
    good = sandbox_yaml(own_relay.port)
    own_relay.edit(good.replace('"*@example.com"', '"billing@example.com"'))
    own_relay.wait_for_line("The change is in effect.")

    def is_refused() -> bool:
        done = mailrelay(
            "send", "--data", own_relay.data, "--from", "other@example.com", "--wait", 0
        )
        return "(SenderNotAllowed)" in done.stderr

    wait_until(is_refused, "refusal of an address that was taken away")
    own_relay.edit(good.replace("kind: MailRelay", "kind: MailRelay\nkind: x"))
    assert ":5: not valid YAML" in own_relay.wait_for_line("not valid YAML")
    own_relay.wait_for_line("The last good configuration stays in effect.")
    own_relay.edit(good.replace("upstreams:", "serviceAccountTokens: {}\n  upstreams:"))
    assert "spec.serviceAccountTokens" in own_relay.wait_for_line("Not supported")
    own_relay.wait_for_line("The last good configuration stays in effect.")
    done = mailrelay("send", "--data", own_relay.data)
    assert done.returncode == 0, done.stderr
    own_relay.edit(f"# only a comment\n{good}".replace('"*@example.com"', '"billing@example.com"'))
    own_relay.wait_for_line("The edit does not change the running configuration.")


def test_a_listener_that_moves_to_a_taken_port_is_said_and_send_uses_what_runs(
    own_relay: Relay,
) -> None:
    own_relay.start()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        own_relay.edit(sandbox_yaml(port))
        said = own_relay.wait_for_line("The change is in effect. Listener submission cannot listen")
        assert f"127.0.0.1:{port}: another program uses the port." in said
        assert f"Until then it stays on port {own_relay.port}." in said
        done = mailrelay("send", "--data", own_relay.data)
        assert done.returncode == 0, done.stderr
        assert f"Submitting to 127.0.0.1:{own_relay.port} " in done.stdout
        status = mailrelay("status", "--data", own_relay.data)
        assert "another program uses the port. Stop" in " ".join(status.stdout.split())
    wait_until(lambda: is_listening(port), "the port that is free now")
    done = mailrelay("send", "--data", own_relay.data)
    assert done.returncode == 0, done.stderr
    assert f"Submitting to 127.0.0.1:{port} " in done.stdout


def test_a_second_one_on_the_same_folder_is_kept_out_and_changes_nothing(own_relay: Relay) -> None:
    own_relay.start()
    done = mailrelay("up", own_relay.file, "--data", own_relay.data)
    assert done.returncode == 4
    assert "is in use by another `mailrelay up`" in done.stderr
    assert mailrelay("send", "--data", own_relay.data).returncode == 0


def test_another_relay_s_gateway_on_the_admin_port_is_not_taken_for_ours(
    own_relay: Relay, tmp_path: Path
) -> None:
    own_relay.start()
    (tmp_path / "other.yaml").write_text(sandbox_yaml(free_port()))
    done = mailrelay(
        *("up", tmp_path / "other.yaml", "--data", tmp_path / "other"),
        *("--admin", f"127.0.0.1:{own_relay.admin}"),
    )
    assert done.returncode == 3, done.stderr
    assert done.stdout == ""


def test_the_gateway_goes_when_its_parent_is_killed(own_relay: Relay) -> None:
    own_relay.start()
    own_relay.process.send_signal(signal.SIGKILL)
    wait_until(lambda: not is_listening(own_relay.port), "end of the orphaned gateway")
    own_relay.stop()
    own_relay.start()


def test_a_gateway_that_is_killed_ends_it_with_its_code(own_relay: Relay) -> None:
    own_relay.start()
    children = f"/proc/{own_relay.process.pid}/task/{own_relay.process.pid}/children"
    with open(children) as found:
        (child,) = found.read().split()
    os.kill(int(child), signal.SIGKILL)
    said = own_relay.wait_for_line("The gateway was killed (SIGKILL)")
    assert f"Accepted mail is in {own_relay.data / 'spool'}" in said
    assert own_relay.process.wait(30) == 128 + signal.SIGKILL
    own_relay.stop()
    own_relay.start()


@pytest.mark.parametrize("logs", ["text", "json"])
def test_no_secret_goes_where_no_person_reads(own_relay: Relay, logs: str) -> None:
    own_relay.at_a_terminal = False
    own_relay.extra = ("--logs", logs)
    own_relay.start()
    kept = json.loads((own_relay.data / "endpoint.json").read_text())
    said = "\n".join(own_relay.lines)
    assert kept["admin_token"] not in said
    assert kept["logins"][0]["password"] not in said
    assert f"(in {own_relay.data}/endpoint.json)" in said
    done = mailrelay(*shlex.split(own_relay.command(" send "))[1:])
    assert done.returncode == 0, done.stderr


def test_json_logs_go_to_stdout_as_the_gateway_writes_them(own_relay: Relay) -> None:
    own_relay.extra = ("--logs", "json")
    own_relay.start()
    done = mailrelay("send", "--data", own_relay.data)
    assert done.returncode == 0, done.stderr
    assert own_relay.wait_for_line('"event":"accepted"').startswith("{")
    assert not (own_relay.data / "gateway.log").exists()
