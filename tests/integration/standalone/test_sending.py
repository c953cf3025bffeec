"""What `mailrelay up` prints works as it stands: each way of sending is accepted and captured."""

import re
import shutil
import smtplib
import ssl
from pathlib import Path

import pytest

from tests.integration.standalone.conftest import PROGRAM, Relay, in_shell, mailrelay
from tests.peers.certificates import make
from tests.waiting import PATIENCE


def run(command: str, stdin: str = "") -> str:
    done = in_shell(command, stdin)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_mailrelay_send_says_that_it_was_accepted_and_captured(relay: Relay) -> None:
    done = mailrelay("send", "--data", relay.data, "--subject", "by mailrelay send")
    assert done.returncode == 0, done.stderr
    queue_id = re.search(r"^Accepted: 250 .*\b([0-9A-Z]{26})\b", done.stdout, re.MULTILINE)
    assert queue_id
    assert "Captured by upstream capture" in done.stdout
    assert relay.captured("by mailrelay send")["queue_id"] == queue_id[1]
    look = re.search(r"^To see it: (.*)$", done.stdout, re.MULTILINE)
    assert look
    assert "This is a test message" in run(look[1])


def test_the_printed_swaks_line_delivers(relay: Relay) -> None:
    command = relay.command("swaks ") + " --header 'Subject: by swaks'"
    output = run(command, stdin=f"{relay.hint('Password')}\n")  # swaks may ask
    assert "250 2.0.0" in output
    assert relay.captured("by swaks")["to"] == ["someone@example.net"]


def test_the_printed_curl_line_delivers_and_verifies_the_certificate(relay: Relay) -> None:
    run(relay.command("curl --ssl-reqd").replace("Subject: Hello", "Subject: by curl"))
    assert relay.captured("by curl")["from"] == "test@example.com"


def test_curl_without_our_ca_does_not_talk_to_us(relay: Relay) -> None:
    command = relay.command("curl --ssl-reqd")
    without = re.sub(r"--cacert \S+", "", command)
    done = in_shell(without)
    assert done.returncode == 60, done.stderr  # CURLE_PEER_FAILED_VERIFICATION


def test_smtplib_with_starttls_and_auth_delivers_byte_for_byte(relay: Relay) -> None:
    message = b"From: test@example.com\r\nSubject: by smtplib\r\n\r\n.dot\r\n..two\r\nend\r\n"
    context = ssl.create_default_context(cafile=relay.hint("CA file"))
    with smtplib.SMTP("127.0.0.1", relay.port, timeout=PATIENCE) as client:
        client.starttls(context=context)
        client.login(relay.hint("User"), relay.hint("Password"))
        client.sendmail("test@example.com", ["a@example.net", "b@example.net"], message)
    found = relay.captured("by smtplib")
    assert found["to"] == ["a@example.net", "b@example.net"]
    raw: bytes = relay.ask(f"/sandbox/messages/{found['id']}/raw")
    assert raw.endswith(b"\r\n\r\n.dot\r\n..two\r\nend\r\n")
    assert raw.startswith(b"Received: ")


def test_the_printed_line_shows_what_was_captured(relay: Relay) -> None:
    mailrelay("send", "--data", relay.data, "--subject", "to be shown")
    relay.captured("to be shown")
    assert "to be shown" in run(relay.command(" inbox list"))


def test_the_printed_lines_run_in_any_folder_and_beside_other_relays(
    relay: Relay, tmp_path: Path
) -> None:
    for line in (relay.command(" send "), relay.command(" status "), relay.command(" inbox ")):
        run(f"cd {tmp_path} && {line}")


def test_a_captured_message_is_shown_and_comes_octet_for_octet(relay: Relay) -> None:
    done = mailrelay("send", "--data", relay.data, "--subject", "Grüße", "--body", "Hallo\n.\nWelt")
    assert done.returncode == 0, done.stderr
    found = relay.captured("Grüße")
    shown = mailrelay("inbox", "show", found["queue_id"], "--data", relay.data)
    assert shown.returncode == 0, shown.stderr
    assert "Envelope: from <test@example.com>" in shown.stdout
    assert "Subject: Grüße" in shown.stdout or "Subject: =?utf-8?" in shown.stdout
    assert "\nHallo\n.\nWelt\n" in shown.stdout
    raw = mailrelay("inbox", "show", found["id"], "--raw", "--data", relay.data)
    assert raw.stdout.startswith("Received: ")
    assert "Message-ID: <" in raw.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("show", "999999"), 1, "No captured message has the id 999999."),
        (("show", "x"), 2, ": ID must be a"),
        (("show", "01ARZ3NDEKTSV4RRFFQ69G5FAV"), 1, "No captured message has the queue id"),
        (("list", "--data", "nowhere"), 4, "nowhere is not a mailrelay data folder"),
    ],
)
def test_a_message_that_is_not_there_is_a_sentence(
    relay: Relay, arguments: tuple[str, ...], code: int, said: str
) -> None:
    folder = () if "--data" in arguments else ("--data", relay.data)
    done = mailrelay("inbox", *arguments, *folder)
    assert done.returncode == code
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_admin_address_in_a_browser_says_what_there_is(relay: Relay) -> None:
    page = run(f"curl -s http://127.0.0.1:{relay.admin}/")
    for path in ("/metrics", "/status", "/sandbox/messages"):
        assert path in page
    assert relay.hint("Admin token") not in page


def test_captured_mail_is_not_for_everybody(relay: Relay) -> None:
    url = f"http://127.0.0.1:{relay.admin}/sandbox/messages"
    output = run(f"curl -s -o /dev/null -w '%{{http_code}}' {url}")
    assert output == "401"


def test_a_sender_that_is_not_one_s_own_is_refused_with_advice(relay: Relay) -> None:
    done = mailrelay("send", "--data", relay.data, "--from", "boss@example.org")
    assert done.returncode == 1
    assert re.search(r"Refused at MAIL: 5\d\d 5\.7\.1 .*\(SenderNotAllowed\)", done.stderr)
    assert "Use --from with an address" in done.stderr


def test_a_wrong_password_is_refused_with_advice(relay: Relay) -> None:
    url = f"smtp://{relay.hint('User')}:wrong@127.0.0.1:{relay.port}"
    done = mailrelay(
        *("send", "--url", url, "--ca", relay.hint("CA file")),
        *("--from", "a@example.com", "--to", "b@example.net"),
    )
    assert done.returncode == 1
    assert re.search(r"Refused at AUTH: 535 .*\(AuthFailed\)", done.stderr)
    assert "wrong" not in done.stdout


def test_send_by_url_works_without_the_data_folder(relay: Relay) -> None:
    url = f"smtp://{relay.hint('User')}:{relay.hint('Password')}@127.0.0.1:{relay.port}"
    done = mailrelay(
        *("send", "--url", url, "--ca", relay.hint("CA file"), "--subject", "by url"),
        *("--from", "a@example.com", "--to", "b@example.net"),
    )
    assert done.returncode == 0, done.stderr
    relay.captured("by url")


def test_several_recipients_may_stand_in_one_option(relay: Relay) -> None:
    done = mailrelay(
        *("send", "--data", relay.data, "--subject", "to several"),
        *("--to", "a@example.net,B <b@example.net>", "--to", "c@example.net"),
    )
    assert done.returncode == 0, done.stderr
    expected = ["a@example.net", "b@example.net", "c@example.net"]
    assert relay.captured("to several")["to"] == expected


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--to", "δοκιμή@example.net"), ": this command sends to ASCII addresses"),
        (("--to", "someone"), "--to someone: write an address as in someone@example.net."),
        (("--to", ""), "write an address as in someone@example.net."),
        (("--from", "x y"), "write an address as in someone@example.net."),
        (("--subject", "a\nb"), "Cannot compose the message: "),
        (("--body", "\udcff"), "--subject, --body: not UTF-8 text."),
        (("--ca", "x"), "--ca is only for --url; a"),
    ],
)
def test_a_mistake_in_an_argument_is_one_sentence(
    relay: Relay, arguments: tuple[str, ...], said: str
) -> None:
    done = mailrelay("send", "--data", relay.data, *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("command", ["COMMAND <&-", r"printf '\377' | COMMAND"])
def test_a_body_that_is_not_text_is_one_sentence(relay: Relay, command: str) -> None:
    done = in_shell(command.replace("COMMAND", f"{PROGRAM} send --data {relay.data} --body -"))
    assert done.returncode == 2
    assert re.fullmatch(r"mailrelay: --body -: standard input is .*\n", done.stderr)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1",
        "127.0.0.1:25",
        "smtp://u:secret@127.0.0.1:99999",
        "smtp://u:secret@127.0.0.1:x",
        "smtp://u:se/cret@127.0.0.1:25",
        "smtp://u:secret@[::1",
        "smtp://",
    ],
)
def test_a_url_that_is_none_is_explained_without_its_password(url: str) -> None:
    done = mailrelay("send", "--url", url, "--from", "a@example.com", "--to", "b@example.net")
    assert done.returncode == 2
    assert " is not the URL" in done.stderr
    assert "cret" not in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_server_that_is_not_trusted_gets_nothing(relay: Relay) -> None:
    url = f"smtp://u:p@127.0.0.1:{relay.port}"
    done = mailrelay("send", "--url", url, "--from", "a@example.com", "--to", "b@example.net")
    assert done.returncode == 1
    assert "Refused at TLS: the server's certificate is not trusted" in done.stderr
    assert "--ca FILE" in done.stderr


def test_another_server_at_the_port_of_a_stopped_relay_is_told_from_it(
    relay: Relay, tmp_path: Path
) -> None:
    for name in ("mailrelay.json", "endpoint.json"):
        shutil.copy(relay.data / name, tmp_path)
    (tmp_path / "ca.crt").write_text(make()[0])
    done = mailrelay("send", "--data", tmp_path)
    assert done.returncode == 1
    assert "Refused at TLS" in done.stderr
    assert f"No relay is running with the data folder {tmp_path}" in done.stderr


def test_status_shows_the_relay_and_its_upstreams(relay: Relay) -> None:
    done = mailrelay("status", "--data", relay.data)
    assert done.returncode == 0, done.stderr
    assert re.search(r"MailRelay +default/sandbox", done.stdout)
    assert re.search(r"capture .* Up ", done.stdout)


def test_the_log_file_has_a_line_for_each_step(relay: Relay) -> None:
    done = mailrelay("send", "--data", relay.data, "--subject", "for the log")
    found = re.search(r"\b([0-9A-Z]{26})\b", done.stdout)
    assert found
    lines = [
        line for line in (relay.data / "gateway.log").read_text().splitlines() if found[1] in line
    ]
    assert '"event":"accepted"' in lines[0]
    assert '"event":"captured"' in lines[1]


def test_no_password_and_no_token_stands_in_the_gateway_s_configuration(relay: Relay) -> None:
    import gzip

    secrets = [relay.hint("Password").encode(), relay.hint("Admin token").encode()]
    for path in Path(relay.data, "config").rglob("*.gz"):
        content = gzip.decompress(path.read_bytes())
        assert not any(secret in content for secret in secrets)


@pytest.mark.parametrize("name", ["--sender", "--data"])
def test_a_sender_or_folder_that_is_not_there_is_explained(relay: Relay, name: str) -> None:
    arguments = ["--data", relay.data, "--sender", "default/nobody"]
    if name == "--data":
        arguments = ["--data", relay.data.parent / "nothing"]
    done = mailrelay("send", *arguments)
    assert done.returncode == (2 if name == "--sender" else 4)
    expected = "known: default/demo" if name == "--sender" else " is not a mailrelay"
    assert expected in done.stderr
