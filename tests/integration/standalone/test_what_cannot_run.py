"""Each mistake of a person gets one clear sentence and its exit code, and leaves nothing behind."""

import re
import socket
from pathlib import Path

import pytest

from mailrelay_operator.cli.folder import DataFolder
from tests.integration.standalone.conftest import (
    PROGRAM,
    ROOT,
    in_shell,
    invoke,
    mailrelay,
    sandbox_yaml,
)
from tests.ports import free_port

SMARTHOST = """
apiVersion: mailrelay.dev/v1alpha1
kind: MailRelay
metadata: {name: company, namespace: mail}
spec:
  hostname: relay.example.com
  listeners: [{name: submission, port: 2525}]
  upstreams:
    - name: smarthost
      smarthost:
        hosts: [{host: smtp.example.net, port: 587}]
        auth: {basic: {secretRef: {name: upstream}}}
"""
BROUGHT = """
---
apiVersion: mailrelay.dev/v1alpha1
kind: MailSender
metadata: {name: app, namespace: default}
spec:
  relayRef: {name: sandbox}
  from: ["*@example.com"]
  credentials: {existingSecretRef: {name: old-login}}
"""


@pytest.mark.parametrize("command", ["up", "check"])
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("kind: [", "relay.yaml:1: not valid YAML:"),
        (
            SMARTHOST,
            "relay.yaml:12: MailRelay mail/company: spec.upstreams[smarthost].smarthost.auth.basic"
            ".secretRef.name: SecretNotFound: Secret mail/upstream of upstream smarthost",
        ),
        (
            sandbox_yaml(2525) + BROUGHT,
            "MailSender default/app: spec.credentials: SecretNotFound: Secret default/old-login",
        ),
        (
            sandbox_yaml(2525).replace(
                "upstreams:", "suppression: {addresses: [a@example.net]}\n  upstreams:"
            ),
            "spec.suppression: Not supported in this version: remove it.",
        ),
        (sandbox_yaml(2525).replace("port:", "prt:"), "Unknown field; did you mean port?"),
        (
            sandbox_yaml(2525)
            .replace("relayRef: {name: sandbox}", "relayRef: {name: sandbox, namespace: default}")
            .replace("name: demo\n", "name: demo\n  namespace: elsewhere\n"),
            "MailSender elsewhere/demo: spec.relayRef: NamespaceNotAllowed:",
        ),
    ],
    ids=["yaml", "login", "sender's login", "unsupported", "typo", "namespace"],
)
def test_a_mistake_in_the_files_is_named_and_ends_with_2(
    tmp_path: Path, command: str, text: str, said: str
) -> None:
    (tmp_path / "relay.yaml").write_text(text)
    arguments = ("--data", tmp_path / "data") if command == "up" else ()
    done = invoke(command, tmp_path / "relay.yaml", *arguments)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert re.match(r".*/relay\.yaml:\d+: ", done.stderr)
    assert len(done.stderr.splitlines()) == 1


def test_two_relays_are_a_question(tmp_path: Path) -> None:
    (tmp_path / "relay.yaml").write_text(sandbox_yaml(2525) + "---" + SMARTHOST)
    done = invoke("up", tmp_path / "relay.yaml", "--data", tmp_path / "data")
    assert done.returncode == 2
    assert "2 MailRelays (default/sandbox, mail/company)" in done.stderr
    assert "--relay" in done.stderr
    assert not (tmp_path / "data").exists()


def test_a_missing_file_is_named() -> None:
    done = mailrelay("up", "nowhere.yaml")
    assert done.returncode == 2
    assert done.stderr == ("nowhere.yaml: no such file; check the name and the current folder.\n")


@pytest.mark.parametrize("which", ["listener", "admin"])
def test_a_port_in_use_ends_with_3_and_says_which(tmp_path: Path, which: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        used = taken.getsockname()[1]
        (tmp_path / "relay.yaml").write_text(
            sandbox_yaml(used if which == "listener" else free_port())
        )
        admin = used if which == "admin" else free_port()
        done = mailrelay(
            *("up", tmp_path / "relay.yaml", "--data", tmp_path / "data"),
            *("--admin", f"127.0.0.1:{admin}"),
        )
    assert done.returncode == 3, done.stderr
    assert str(used) in done.stderr
    assert "Stop it, or give" in done.stderr or "stop what uses it" in done.stderr
    assert "Password" not in done.stdout


def test_a_folder_of_other_things_ends_with_4(tmp_path: Path) -> None:
    (tmp_path / "relay.yaml").write_text(sandbox_yaml(free_port()))
    done = invoke("up", tmp_path / "relay.yaml", "--data", tmp_path)
    assert done.returncode == 4
    assert " contains other files; choose" in done.stderr


@pytest.mark.parametrize("admin", ["8025", "localhost:", "localhost:0", "localhost:x"])
def test_an_admin_address_that_is_none_is_explained(tmp_path: Path, admin: str) -> None:
    (tmp_path / "relay.yaml").write_text(sandbox_yaml(free_port()))
    done = invoke("up", tmp_path / "relay.yaml", "--admin", admin)
    assert done.returncode == 2
    assert "is not HOST:PORT, such as 127.0.0.1:8025" in done.stderr


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--bind", "127.0.0.1:2525", "has a port; listeners have theirs in `spec.listeners`"),
        ("--bind", "192.0.2.1", "192.0.2.1 is not an address of this machine"),
        ("--bind", "2525", "is not an address, such as 127.0.0.1"),
        ("--admin", "a..b:8025", "a..b is not an address of this machine"),
    ],
)
def test_an_address_that_is_none_of_ours_is_explained(
    tmp_path: Path, option: str, value: str, said: str
) -> None:
    (tmp_path / "relay.yaml").write_text(sandbox_yaml(free_port()))
    done = invoke("up", tmp_path / "relay.yaml", "--data", tmp_path / "data", option, value)
    assert done.returncode == 2
    assert f"{option}: " in done.stderr
    assert said in done.stderr
    assert not (tmp_path / "data").exists()


def test_the_admin_port_of_a_listener_is_not_another_program_s(tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "relay.yaml").write_text(sandbox_yaml(port))
    done = invoke(
        *("up", tmp_path / "relay.yaml", "--data", tmp_path / "data"),
        *("--admin", f"127.0.0.1:{port}"),
    )
    assert done.returncode == 2
    assert f"--admin 127.0.0.1:{port}: listener submission uses this port" in done.stderr


@pytest.mark.parametrize(
    ("command", "said"), [("chek", "Did you mean check?"), ("zzz", "Commands: up, check,")]
)
def test_a_command_that_is_not_there_is_told_from_those_that_are(command: str, said: str) -> None:
    done = invoke(command)
    assert done.returncode == 2
    assert said in done.stderr


@pytest.mark.parametrize("command", ["check", "up", "render"])
@pytest.mark.parametrize("redirected", ["COMMAND - <&-", r"printf '\377' | COMMAND -"])
def test_standard_input_that_cannot_be_read_is_one_line(command: str, redirected: str) -> None:
    done = in_shell(redirected.replace("COMMAND", f"{PROGRAM} {command}"))
    assert done.returncode == 2
    assert re.fullmatch(r"<stdin>: .*\n", done.stderr)


def test_a_spool_that_cannot_be_used_is_explained_by_the_gateway_and_ends_with_4(
    tmp_path: Path,
) -> None:
    (tmp_path / "relay.yaml").write_text(sandbox_yaml(free_port()))
    data = tmp_path / "data"
    spool = DataFolder.create(data, relay="default/sandbox").spool
    spool.write_text("not a folder")
    done = mailrelay(
        "up", tmp_path / "relay.yaml", "--data", data, "--admin", f"127.0.0.1:{free_port()}"
    )
    assert done.returncode == 4, done.stderr
    assert str(spool) in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "example", sorted((ROOT / "examples" / "planned").glob("*.yaml")), ids=lambda path: path.stem
)
def test_a_planned_example_is_refused_by_the_fields_that_do_not_act_yet(example: Path) -> None:
    done = invoke("check", example)
    assert done.returncode == 2
    assert "supported in this version: remove" in done.stderr


def test_standard_input_is_a_file_too() -> None:
    done = invoke("check", "-", stdin=sandbox_yaml(2525))
    assert done.returncode == 0, done.stderr
    assert done.stdout == "OK: 1 MailRelay, 1 MailSender.\n"


def test_check_shows_what_a_preset_sets() -> None:
    relay = sandbox_yaml(2525).replace("sandbox: {", "smarthost: {provider: SendGrid} #")
    done = invoke("check", "-", stdin=relay)
    assert done.returncode == 0, done.stderr
    counted, preset = done.stdout.splitlines()
    assert counted.startswith("OK: 1 MailRelay")
    assert "provider SendGrid sets hosts smtp.sendgrid.net:587; tls.mode StartTLS" in preset
