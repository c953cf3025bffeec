"""flufl.bounce, by which mailing lists read bounces, finds in our notices exactly the recipients
that failed, and none for which there is hope.
"""

from __future__ import annotations

from email import policy
from email.parser import BytesParser

import pytest
from flufl.bounce import all_failures
from hypothesis import given
from hypothesis import strategies as st

from mailrelay_gateway.message.dsn_text import Action, NoticeRecipient
from mailrelay_gateway.reasons import Reason
from tests.unit.message.notices import failed, octets


def found(*recipients: NoticeRecipient, header: bytes = b"Subject: hello") -> set[str]:
    """Whom the notice about these says to have failed for good."""
    # As the lists read mail: with the older policy.
    notice = BytesParser(policy=policy.compat32).parsebytes(octets(*recipients, header=header))
    temporary, permanent = all_failures(notice)
    assert temporary == frozenset()
    return {address.decode() for address in permanent}


@pytest.mark.parametrize(
    "recipient",
    [
        failed(),
        failed("550 5.7.1 blocked"),
        failed("554 Your IP address 45.1.1.20 is on our block list"),
        failed("450 4.2.2 mailbox full", reason=Reason.GAVE_UP),
        failed(None, detail="was silent for 300 s", reason=Reason.GAVE_UP),
        failed("553 5.1.3 bad", host="", reason=Reason.ADDRESS_UNSENDABLE),
        failed("550-5.1.1 <other@example.com>: two\r\n550 5.1.1 " + "long " * 150),
    ],
)
def test_the_recipient_is_found(recipient: NoticeRecipient) -> None:
    assert found(recipient) == {"ann@example.net"}


def test_each_of_a_hundred_is_found() -> None:
    people = [failed(address=f"p{n}@example.net") for n in range(100)]
    assert found(*people) == {f"p{n}@example.net" for n in range(100)}


def test_who_is_delayed_may_yet_get_it_and_who_was_passed_on_has_not_failed() -> None:
    later = octets(failed("451 4.3.0 later"), action=Action.DELAYED)
    temporary, permanent = all_failures(BytesParser(policy=policy.compat32).parsebytes(later))
    assert (set(temporary), set(permanent)) == ({b"ann@example.net"}, set())
    passed = octets(failed("250 2.0.0 queued"), action=Action.RELAYED)
    assert not any(all_failures(BytesParser(policy=policy.compat32).parsebytes(passed)))


def test_nobody_else_is_taken_from_the_quoted_header() -> None:
    header = (
        b"To: ann@example.net, well@example.net\r\n"
        b"X-Failed-Recipients: well@example.net\r\n"
        b"Final-Recipient: rfc822; well@example.net\r\nAction: failed\r\nStatus: 5.1.1"
    )
    assert found(failed(), header=header) == {"ann@example.net"}


WORDS = st.text(st.characters(min_codepoint=32, max_codepoint=0x2FF), max_size=300)
# Without =, at which flufl.bounce takes the address for a parameter and loses half of it.
ATOMS = st.text("abcdefghijklmnopqrstuvwxyz0123456789!#$%&*/?^_`{|}~-.+", min_size=1, max_size=30)


@given(st.lists(ATOMS, min_size=1, max_size=5, unique=True), WORDS, st.binary(max_size=500))
def test_whatever_servers_say_the_recipients_are_found(
    names: list[str], words: str, header: bytes
) -> None:
    """Invariant: the recipients found are those of the notice, whatever is quoted beside them."""
    people = [failed(f"550 {words}", address=f"{name}@example.net") for name in names]
    assert found(*people, header=header) == {f"{name}@example.net" for name in names}
