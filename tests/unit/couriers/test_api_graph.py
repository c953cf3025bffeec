"""Property: after `addressed`, To, Cc and Bcc name exactly the recipients of the attempt, since
Graph sends to whoever they name.
"""

from __future__ import annotations

from email import message_from_bytes
from email.parser import BytesHeaderParser
from email.policy import compat32, default
from email.utils import getaddresses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailrelay_gateway.couriers.api.graph import EnvelopeMismatch, addressed, send_path

POOL = [f"{name}@example.{zone}" for name in ("ann", "bob", "cy", "Dee") for zone in ("com", "org")]
NAMES = ["", "Ann", "Smith, Ann", 'says "hi"', "=?utf-8?q?J=C3=BCrgen?="]


def named(header: bytes) -> list[str]:
    message = BytesHeaderParser(policy=compat32).parsebytes(header + b"\r\n")
    fields = [
        str(value)
        for name in ("To", "Cc", "Bcc", "Resent-To", "Resent-Cc", "Resent-Bcc")
        for value in message.get_all(name, [])
    ]
    return [address for _, address in getaddresses(fields)]


def field(name: str, mailboxes: list[tuple[str, str]]) -> bytes:
    words = []
    for display, address in mailboxes:
        quoted = display if display.startswith("=?") or not display else f'"{_escaped(display)}"'
        words.append(f"{quoted} <{address}>" if quoted else address)
    return f"{name}: {', '.join(words)}\r\n".encode()


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


MAILBOXES = st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(POOL)), max_size=5)


@given(to=MAILBOXES, cc=MAILBOXES, recipients=st.sets(st.sampled_from(POOL), min_size=1))
def test_the_header_names_exactly_the_recipients(
    to: list[tuple[str, str]], cc: list[tuple[str, str]], recipients: set[str]
) -> None:
    header = b"From: a@example.com\r\n" + field("To", to) + field("CC", cc) + b"X-Y: z\r\n q\r\n"
    found = addressed(header, sorted(recipients), rewrite=True)
    assert {one.casefold() for one in named(found)} == {one.casefold() for one in recipients}
    assert b"From: a@example.com\r\n" in found
    assert b"X-Y: z\r\n q\r\n" in found
    in_both = {a.casefold() for _, a in [*to, *cc]} <= {one.casefold() for one in recipients}
    if in_both:
        assert addressed(header, sorted(recipients), rewrite=False) == found
    else:
        with pytest.raises(EnvelopeMismatch, match=r"names .* who is not a recipient"):
            addressed(header, sorted(recipients), rewrite=False)


def test_a_header_that_names_the_recipients_is_not_changed() -> None:
    header = b"To: Ann\r\n <ann@example.com>,\r\n  bob@example.org\r\nSubject: x\r\n"
    assert addressed(header, ["bob@example.org", "ann@example.com"], rewrite=False) == header
    assert addressed(header, ["ANN@example.com", "bob@example.org"], rewrite=True) == header


def test_those_only_in_the_envelope_are_blind_copies() -> None:
    found = addressed(
        b"To: ann@example.com\r\n", ["ann@example.com", "cy@example.com"], rewrite=False
    )
    assert found == b"To: ann@example.com\r\nBcc: cy@example.com\r\n"


def test_a_domain_in_the_header_may_be_not_ascii() -> None:
    header = "To: Ann <ann@bücher.example>\r\n".encode()
    ann = "ann@xn--bcher-kva.example"
    assert addressed(header, [ann], rewrite=False) == header
    both = "To: Ann <ann@bücher.example>, cy@example.com\r\n".encode()
    assert addressed(both, [ann], rewrite=True) == f"To: Ann <{ann}>\r\n".encode()


@pytest.mark.parametrize(
    "name",
    [
        "=?utf-8?q?J=C3=B6rg_M.?=",
        "=?utf-8?Q?J=C3=B6rg?= =?utf-8?B?w7Y=?= M.",
        '=?utf-8?q?J=C3=B6rg?= "a, b"',
    ],
)
def test_encoded_names_still_decode(name: str) -> None:
    header = f"To: {name} <ann@example.com>, cy@example.com\r\n".encode()
    found = addressed(header, ["ann@example.com"], rewrite=True)
    before, after = (message_from_bytes(one, policy=default)["To"] for one in (header, found))
    assert after.addresses == before.addresses[:1]


def test_a_field_that_cannot_be_read_is_replaced_or_refused() -> None:
    header = b"To: undisclosed-recipients:;\r\nCc: @@,<\r\n"
    hidden = b"To: undisclosed-recipients:;\r\n"
    assert named(addressed(hidden, ["ann@example.com"], rewrite=False)) == ["ann@example.com"]
    with pytest.raises(EnvelopeMismatch, match="cannot be read for certain"):
        addressed(header, ["ann@example.com"], rewrite=False)
    assert named(addressed(header, ["ann@example.com"], rewrite=True)) == ["ann@example.com"]


def test_nobody_is_reached_by_resent_fields() -> None:
    header = b"Resent-To: bob@example.org\r\nTo: ann@example.com\r\n"
    assert addressed(header, ["ann@example.com"], rewrite=True) == b"To: ann@example.com\r\n"


def test_many_blind_copies_keep_lines_short() -> None:
    many = [f"recipient-number-{n}@example.com" for n in range(400)]
    found = addressed(b"Subject: x\r\n", many, rewrite=True)
    assert sorted(named(found)) == sorted(many)
    assert max(len(line) for line in found.split(b"\r\n")) <= 998


def test_a_mailbox_cannot_leave_its_path() -> None:
    assert send_path("a/../b@example.com") == "/v1.0/users/a%2F..%2Fb%40example.com/sendMail"
