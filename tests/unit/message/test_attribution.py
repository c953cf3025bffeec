"""An upstream is told whose mail it gets, or is not given the mail."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mailrelay_gateway.contract.attribution import Attribution
from mailrelay_gateway.message.attribution import Attributor, Unattributable
from mailrelay_gateway.message.envelope import ANONYMOUS, POSTMASTER, Identity, Message
from tests.unit.queue.build import message

TENANT = Attribution(header="X-SES-TENANT", template="{namespace}")
SET = Attribution(header="X-SES-CONFIGURATION-SET", template="all-mail")
BOTH = Attribution(header="X-Who", template="{namespace}_{sender}")


def of(namespace: str, name: str = "app") -> Message:
    identity = Identity(namespace=namespace, name=name, uid="u", username="")
    return replace(message(), identity=identity, prelude=b"Received: x\r\n", size=14)


def test_the_fields_go_in_front_and_the_size_says_so() -> None:
    found = Attributor([TENANT, SET, BOTH]).attributed(of("team-a"))
    assert found.prelude == (
        b"X-SES-TENANT: team-a\r\nX-SES-CONFIGURATION-SET: all-mail\r\nX-Who: team-a_app\r\n"
        b"Received: x\r\n"
    )
    assert found.size == len(found.prelude) + 1


def test_without_attribution_the_message_is_the_same_object() -> None:
    given = of("team-a")
    assert Attributor([]).attributed(given) is given


@pytest.mark.parametrize("identity", [ANONYMOUS, POSTMASTER])
def test_mail_of_nobody_gets_only_what_everybody_gets(identity: Identity) -> None:
    given = replace(of(""), identity=identity)
    found = Attributor([TENANT, SET, BOTH]).attributed(given)
    assert found.prelude.startswith(b"X-SES-CONFIGURATION-SET: all-mail\r\nReceived")
    assert Attributor([TENANT]).attributed(given) is given


@pytest.mark.parametrize("name", ["a.b", "x" * 60, "a\r\nBcc: b@example.org", "ä", "a b"])
def test_a_value_that_is_not_plain_is_never_sent(name: str) -> None:
    with pytest.raises(Unattributable, match="X-Who of MailSender"):
        Attributor([SET, BOTH]).attributed(of("team", name))


def test_which_ones_tell_tenants_apart() -> None:
    assert not Attributor([SET]).per_tenant
    assert Attributor([SET, TENANT]).per_tenant
