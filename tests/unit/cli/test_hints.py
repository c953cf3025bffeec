"""What a newcomer is told: commands that can be copied, whatever the relay looks like."""

import shlex

from mailrelay_gateway.contract.documents import AuthenticationMode, TlsMode
from mailrelay_operator.cli.endpoint import Endpoint, Listener, Login, Upstream
from mailrelay_operator.cli.hints import YOURSELF, curl_line, hint_text, sender_address, swaks_line

LISTENER = Listener(
    name="submission",
    host="127.0.0.1",
    port=2525,
    tls=TlsMode.START_TLS,
    authentication=AuthenticationMode.REQUIRED,
)
LOGIN = Login(
    sender="team/app", username="team.app", password="it's $secret", addresses=("*@a.example",)
)


def endpoint(**changes: object) -> Endpoint:
    values = {
        "relay": "mail/company",
        "admin_host": "127.0.0.1",
        "admin_port": 8025,
        "admin_token": "token",
        "listeners": (LISTENER,),
        "logins": (LOGIN,),
        "upstreams": (Upstream(name="capture", is_sandbox=True),),
    }
    return Endpoint.model_validate(values | changes)


def text_of(one: Endpoint) -> str:
    return hint_text(
        one, data="/my data", ca_file="/ca.crt", program=("mailrelay",), show_secrets=True
    )


def test_a_password_with_quotes_survives_the_shell() -> None:
    words = shlex.split(swaks_line(LISTENER, LOGIN, ca_file="/a b/ca.crt", recipient="x@y"))
    assert words[words.index("--auth-password") + 1] == "it's $secret"
    assert words[words.index("--tls-ca-path") + 1] == "/a b/ca.crt"
    _, _, curl = curl_line(LISTENER, LOGIN, ca_file="", recipient="x@y").partition(" | ")
    assert "team.app:it's $secret" in shlex.split(curl)


def test_a_password_that_swaks_would_take_for_an_option_is_left_for_it_to_ask() -> None:
    login = LOGIN.model_copy(update={"password": "-secret"})
    words = shlex.split(swaks_line(LISTENER, login, ca_file="", recipient="x@y"))
    assert "--auth-password" not in words
    assert "--auth-user" in words


def test_where_nobody_reads_no_secret_is_shown() -> None:
    text = hint_text(
        endpoint(admin_token="the-token"),
        data="/my data",
        ca_file="/ca.crt",
        program=("mailrelay",),
        show_secrets=False,
    )
    assert LOGIN.password not in text
    assert "the-token" not in text
    assert text.count("(in /my data/endpoint.json)") == 2
    assert "mailrelay send --data '/my data'\n" in text


def test_implicit_tls_is_spoken_as_such() -> None:
    listener = LISTENER.model_copy(update={"tls": TlsMode.IMPLICIT, "port": 465})
    assert "--tls-on-connect" in swaks_line(listener, LOGIN, ca_file="", recipient="x@y")
    assert curl_line(listener, LOGIN, ca_file="", recipient="x@y").endswith("smtps://127.0.0.1:465")


def test_a_given_certificate_is_verified_by_its_name() -> None:
    listener = LISTENER.model_copy(update={"certificate_host": "relay.example.com"})
    words = shlex.split(curl_line(listener, LOGIN, ca_file="", recipient="x@y").partition(" | ")[2])
    assert words[words.index("--resolve") + 1] == "relay.example.com:2525:127.0.0.1"
    assert words[-1] == "smtp://relay.example.com:2525"


def test_an_ipv6_address_is_bracketed() -> None:
    listener = LISTENER.model_copy(update={"host": "::1"})
    command = curl_line(listener, LOGIN, ca_file="", recipient="x@y")
    assert shlex.split(command)[-1] == "smtp://[::1]:2525"
    assert "[::1]:2525 (STARTTLS)" in text_of(endpoint(listeners=(listener,)))


def test_where_everything_is_captured_anybody_may_be_written_to() -> None:
    text = text_of(endpoint())
    assert "--to someone@example.net" in text
    assert "No mail is sent out. Captured mail" in text
    assert "mailrelay send --data '/my data'\n" in text


def test_where_mail_leaves_nobody_is_written_to_by_accident() -> None:
    text = text_of(endpoint(upstreams=(Upstream(name="smarthost"),)))
    assert "someone@example.net" not in text
    assert f"mailrelay send --data '/my data' --to {YOURSELF}" in text
    assert " inbox " not in text


def test_a_brought_password_is_not_known_and_not_invented() -> None:
    text = text_of(endpoint(logins=(LOGIN.model_copy(update={"password": ""}),)))
    assert "(in your existing Secret)" in text
    assert "swaks" not in text


def test_a_listener_without_login_needs_none() -> None:
    listener = LISTENER.model_copy(
        update={"tls": TlsMode.NONE, "authentication": AuthenticationMode.NONE}
    )
    text = text_of(endpoint(listeners=(listener,), logins=()))
    assert "127.0.0.1:2525 (no TLS, without login)" in text
    assert "--auth" not in text
    assert "--tls" not in text


def test_many_senders_are_counted_not_listed() -> None:
    logins = tuple(LOGIN.model_copy(update={"username": f"u{n}"}) for n in range(12))
    text = text_of(endpoint(logins=logins))
    assert "u9 " in text
    assert "u10" not in text
    assert "and 2 more MailSenders" in text


def test_the_sender_s_address_is_one_that_it_has() -> None:
    assert sender_address(LOGIN) == "test@a.example"
    assert sender_address(LOGIN.model_copy(update={"addresses": ("bill@b.example",)})) == (
        "bill@b.example"
    )
    assert sender_address(LOGIN.model_copy(update={"addresses": ("*",)})) == "test@example.com"
