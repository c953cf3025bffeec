"""Which addresses a MailSender's `from` covers."""

from __future__ import annotations

import pytest

from mailrelay_gateway.policy.senders import AddressMatcher, compile_directory
from tests.models import made


@pytest.mark.parametrize(
    ("patterns", "address", "expected"),
    [
        (["billing@example.com"], "billing@example.com", True),
        (["Billing@Example.com"], "bILLING@eXAMPLE.COM", True),
        (["billing@example.com"], "other@example.com", False),
        (["billing@example.com"], "billing@sub.example.com", False),
        (["*@example.com"], "anyone@EXAMPLE.com", True),
        (["*@example.com"], "anyone@sub.example.com", False),
        (["*@example.com"], "anyone@notexample.com", False),
        (["*@example.com"], '"a@evil.example"@example.com', True),
        (["*@example.com"], '"a@example.com"@evil.example', False),
        (["*"], "anyone@anywhere.example", True),
        (["*@bücher.example"], "a@xn--bcher-kva.example", True),
        (["*@straße.example"], "a@xn--strae-oqa.example", True),
        (["*@example.com"], "jörg@EXAMPLE.com", True),
        (["k@example.com"], "\u212a@example.com", False),
        (["nonsense"], "nonsense@example.com", False),
        ([], "a@example.com", False),
    ],
)
def test_matching(patterns: list[str], address: str, expected: bool) -> None:
    assert AddressMatcher(patterns).matches(address) is expected


def test_the_directory_finds_by_username_and_by_uid() -> None:
    sender = made.sender(
        uid="u", namespace="n", name="s", username="n.s", addresses=("*",), suspend=True
    )
    directory = compile_directory([sender])
    entry = directory.by_username["n.s"]
    assert directory.by_uid == {"u": entry}
    assert entry.suspended
    assert (entry.identity.namespace, entry.identity.name) == ("n", "s")
