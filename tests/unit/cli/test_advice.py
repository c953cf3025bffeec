"""Each refusal is met with advice; its words are the gateway's own."""

import pytest

from mailrelay_gateway.contract.stage import Stage
from mailrelay_gateway.reasons import Reason
from mailrelay_operator.cli.advice import BY_REASON, PERMANENT, TEMPORARY, advise
from mailrelay_operator.cli.submission import Refused


def test_every_word_of_the_table_is_one_of_the_gateway_s() -> None:
    assert set(BY_REASON) <= {reason.value for reason in Reason}


ROWS = pytest.mark.parametrize(
    ("stage", "reply", "part"),
    [
        (Stage.MAIL, "550 5.7.1 Not your address (SenderNotAllowed)", "Use --from with an address"),
        (Stage.AUTH, "535 5.7.8 No (AuthFailed)", "The login is not valid"),
        (Stage.AUTH, "535 authentication failed", "`mailrelay up` prints username and password."),
        (Stage.CONNECT, "Connection refused", "Is the relay running there? Start"),
        (Stage.MAIL, "452 4.3.1 Insufficient storage", "free some space"),
        (Stage.RCPT, "450 4.2.0 greylisted", TEMPORARY),
        (Stage.RCPT, "550 5.1.1 no such user", PERMANENT),
        (Stage.DATA, "the connection broke (reset)", "See the gateway's log."),
        (Stage.DATA, "554 5.6.0 No (NotAWordOfOurs)", PERMANENT),
    ],
)


def test_what_only_the_place_knows_comes_first() -> None:
    refused = Refused(Stage.AUTH, "535 5.7.8 No (AuthFailed)", remedy="Do this.")
    assert advise(refused) == "Do this."


@ROWS
def test_a_refusal_gets_the_advice_that_fits_best(stage: Stage, reply: str, part: str) -> None:
    assert part in advise(Refused(stage, reply))
