"""A header made ASCII, as Python's email reads it before and after."""

from __future__ import annotations

import email
import email.policy
import time
from email.headerregistry import Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailrelay_gateway.message.mime.header import ascii_header, encoded_words

UTF8 = email.policy.SMTP.clone(utf8=True)


def read(header: bytes) -> email.message.EmailMessage:
    found = email.message_from_bytes(header + b"\r\n", policy=email.policy.default)
    assert isinstance(found, email.message.EmailMessage)
    return found


def test_a_field_in_ascii_is_not_touched() -> None:
    header = b"X-One:  as it is\r\nSubject:\r\n folded  \r\n strangely\r\n"
    assert ascii_header(header) == header
    after = ascii_header(header + "X-Two: ü\r\n".encode())
    assert after == header + b"X-Two: =?utf-8?q?=C3=BC?=\r\n"


@pytest.mark.parametrize(
    "value",
    [
        "Grüße",
        "Re: Grüße aus Köln, und mehr",
        "plain then ü",
        "ü then plain",
        "日本語のとても長い件名です。" * 20,
        "a  b  ü   ö  c",
    ],
)
def test_text_reads_as_before(value: str) -> None:
    after = ascii_header(f"Subject: {value}\r\n".encode())
    assert after.isascii()
    assert all(len(line) <= 78 for line in after.split(b"\r\n"))
    found = str(read(after)["Subject"])
    assert found.split() == value.split()


@given(
    st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Zs", "Zl", "Zp")), min_size=1)
)
def test_any_word_reads_as_before(word: str) -> None:
    octets = f"Subject: {word}\r\n".encode()
    if not octets.isascii():
        assert str(read(ascii_header(octets))["Subject"]) == word


@pytest.mark.parametrize("long", [b"a" * 250_000, b" " * 250_000, b"\r\n \t" * 60_000])
@pytest.mark.parametrize("other", ["ü {}", "{} ü", "{}ü", "ü{}"])
def test_a_long_word_costs_no_more_than_its_length(long: bytes, other: str) -> None:
    before, after = (each.encode() for each in other.split("{}"))
    began = time.process_time()
    made = ascii_header(b"Subject: " + before + long + after + b"\r\n")
    assert made.isascii()
    assert time.process_time() - began < 2


@given(st.binary(min_size=1, max_size=200))
def test_encoded_words_are_short_and_ascii(octets: bytes) -> None:
    lines = encoded_words(octets).split(b"\r\n ")
    assert all(line.isascii() and len(line) <= 75 for line in lines)


def test_octets_that_are_no_utf_8_are_kept() -> None:
    after = ascii_header(b"Subject: Gr\xfc\xdfe\r\n")
    assert after == b"Subject: =?unknown-8bit?q?Gr=FC=DFe?=\r\n"


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ("Jörg <a@b.example>", [("Jörg", "a@b.example")]),
        ('"Müller, Jörg" <a@b.example>', [("Müller, Jörg", "a@b.example")]),
        ("a@b.example (Büro)", [("", "a@b.example")]),
        ("x <c@d.example>, Jörg <a@b.example>", [("x", "c@d.example"), ("Jörg", "a@b.example")]),
        ("Ä B Ö <a@b.example>", [("Ä B Ö", "a@b.example")]),
        ("Gruppe Ä: a@b.example, ö <c@d.example>;", [("", "a@b.example"), ("ö", "c@d.example")]),
    ],
)
def test_mailboxes_read_as_before(value: str, wanted: list[tuple[str, str]]) -> None:
    after = ascii_header(f"To: {value}\r\nCc: plain@x.example\r\n".encode())
    assert after.isascii()
    found: tuple[Address, ...] = read(after)["To"].addresses
    assert [(one.display_name, one.addr_spec) for one in found] == wanted
    assert read(after)["Cc"] == "plain@x.example"


def labels(domain: str) -> str | None:
    return domain.encode("idna").decode() if domain.endswith("example") else None


def test_a_domain_becomes_its_a_label_and_other_addresses_are_shown_to_people_only() -> None:
    header = "To: ü <a@bücher.example>, jörg@b.example, c@ö.test, d@d.example\r\n".encode()
    after = ascii_header(header, labels)
    assert after.isascii()
    to = read(after)["To"]
    assert [one.addr_spec for one in to.addresses] == ["a@xn--bcher-kva.example", "d@d.example"]
    assert [group.display_name for group in to.groups if not group.addresses] == [
        "jörg@b.example",
        "c@ö.test",
    ]


@pytest.mark.parametrize("value", ['ü "open', "ü (open", "ü <a@b"])
def test_an_address_field_that_cannot_be_read_is_shown_to_people_only(value: str) -> None:
    after = ascii_header(f"To: {value}\r\n".encode())
    assert after.startswith(b"Downgraded-To: =?utf-8?q?")


@pytest.mark.parametrize(
    "name", ["Übersicht.txt", "日本語の長いファイル名" * 10 + ".pdf", 'a "b" ü']
)
def test_parameters_read_as_before(name: str) -> None:
    quoted = name.replace('"', '\\"')
    after = ascii_header(
        f'Content-Type: application/pdf; charset=utf-8; name="{quoted}"; x=y\r\n'
        f'Content-Disposition: attachment;\r\n filename="{quoted}"\r\n'.encode()
    )
    assert after.isascii()
    assert all(len(line) <= 120 for line in after.split(b"\r\n"))
    found = read(after)
    assert found.get_content_type() == "application/pdf"
    assert found.get_param("x") == "y"
    assert found.get_filename() == name


def test_what_programs_read_is_renamed() -> None:
    after = ascii_header("Message-ID: <ü@x>\r\nDate: Mo, 1. März\r\n".encode())
    assert after == (
        b"Downgraded-Message-ID: =?utf-8?q?=3C=C3=BC=40x=3E?=\r\n"
        b"Downgraded-Date: =?utf-8?q?Mo=2C_1=2E_M=C3=A4rz?=\r\n"
    )
