"""The server's own words, without what a sender could have put there; and the times it names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailrelay_gateway.delivery.classify import classify_reply
from mailrelay_gateway.delivery.reply_text import (
    LONGEST,
    MAX_SIGNATURE,
    MAX_SPOKEN,
    named_moment,
    named_seconds,
    signature,
    spoken,
)
from mailrelay_gateway.smtp.client_states import Phase
from mailrelay_gateway.smtp.reply import Reply


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("<a@b.example>: Relay ACCESS denied", ": relay access denied"),
        ('No such user "relay denied"@b.example here', "no such user here"),
        ('<"relay denied"@b.example> no', "no"),
        ("no a@b.example, see https://x.example/relay", "no see"),
        ("two\nlines  and\ttabs", "two lines and tabs"),
        ("", ""),
    ],
)
def test_addresses_and_links_are_not_the_servers_words(text: str, words: str) -> None:
    assert spoken(Reply(550, "", text)) == words


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("no (id 17-ab)", "no (id 4711-cd)"),
        ("<a@b.example> refused 'x'", "<c@d.example> refused 'y'"),
        ("[192.0.2.1] no", "[2001:db8::1] no"),
        ("no q7sm123.5 - gsmtp", "no x9zz1.7 - gsmtp"),
        ("no abcdefghijklmnopqrstuvwxyzabc", "no zyxwvutsrqponmlkjihgfedcbazyx"),
    ],
)
def test_the_same_refusal_of_other_messages_has_the_same_signature(one: str, other: str) -> None:
    assert signature(Reply(550, "5.7.1", one)) == signature(Reply(550, "5.7.1", other))


@pytest.mark.parametrize(
    "other", [Reply(551, "5.7.1", "no"), Reply(550, "5.7.2", "no"), Reply(550, "5.7.1", "yes")]
)
def test_another_refusal_has_another_signature(other: Reply) -> None:
    assert signature(other) != signature(Reply(550, "5.7.1", "no"))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("try again in 92 seconds", 92),
        ("greylisted, please come back in 5 minutes", 300),
        ("rate limit, retry after 1 hour", 3600),
        ("please wait 30s", 30),
        ("try again later", None),
        ("you sent 92 messages in 60 seconds", None),
        ("try again in 0 seconds", None),
        (f"try again in {int(LONGEST) + 1} seconds", None),
        ("try again after 2026-05-01 10:00:00 utc", None),
        ("try again in 99999999999999 seconds", None),
    ],
)
def test_a_span_of_time_is_read(text: str, seconds: float | None) -> None:
    assert named_seconds(text) == seconds


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("after 2026-05-01 10:00:00 utc", 1777629600),
        ("until 2026-05-01t10:00z", 1777629600),
        ("after 2026-05-01 12:00:00 +02:00", 1777629600),
        ("after 2026-05-01 12:00:00 +0200", 1777629600),
        ("after fri, 01 may 2026 10:00:00 gmt", 1777629600),
        ("after fri, 01 may 2026 10:00:00 utc", 1777629600),
        ("after 1 may 2026 12:00 +0200", 1777629600),
        ("after 1 may 2026 10:00 -0000", 1777629600),
        ("after 0001-01-01 00:00:00 +2359", -62135683140),
        ("after 0000-01-01 00:00:00 utc", None),
        ("after 2026-05-01 10:00:00 +9999", None),
        ("after 2026-05-01 10:00:00", None),
        ("after 2026-13-41 10:00:00 utc", None),
        ("after fri, 41 may 2026 10:00:00 gmt", None),
        ("after lunch", None),
    ],
)
def test_a_moment_is_read_if_it_has_a_zone(text: str, moment: float | None) -> None:
    assert named_moment(text) == moment


@given(
    phase=st.sampled_from([Phase.MAIL, Phase.RCPT, Phase.DATA, Phase.FINAL]),
    code=st.integers(400, 599),
    enhanced=st.sampled_from(["", "4.7.1", "5.7.1", "5.1.1", "5.3.0"]),
    text=st.text(max_size=MAX_SPOKEN + 100),
)
def test_every_refusal_means_something(phase: Phase, code: int, enhanced: str, text: str) -> None:
    """Invariant: whatever a server says, it has a meaning, and its words are bounded."""
    reply = Reply(code, enhanced, text)
    assert classify_reply(phase, reply).reply is reply
    assert "@" not in spoken(reply)
    assert len(signature(reply)) <= MAX_SIGNATURE
