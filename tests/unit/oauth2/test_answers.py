"""What a token endpoint's answer means, and how little of it is shown."""

from __future__ import annotations

import json

import pytest

from mailrelay_gateway.couriers.oauth2.answers import (
    LONGEST_LIFE,
    LONGEST_WAIT,
    MAX_TOKEN,
    SHORTEST_LIFE,
    USUAL_LIFE,
    Grant,
    NoToken,
    clock_skew,
    read_answer,
)
from mailrelay_gateway.reasons import Reason


def read(
    status: int, document: object, *, secrets: tuple[str, ...] = (), **headers: str
) -> Grant | NoToken:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return read_answer(status, named, body, secrets=secrets)


def refused(
    status: int, document: object, *, secrets: tuple[str, ...] = (), **headers: str
) -> NoToken:
    found = read(status, document, secrets=secrets, **headers)
    assert isinstance(found, NoToken)
    return found


@pytest.mark.parametrize(
    ("expires_in", "life"),
    [
        (3599, 3599.0),
        ("3599", 3599.0),
        (None, USUAL_LIFE),
        ("soon", USUAL_LIFE),
        (0, SHORTEST_LIFE),
        (-5, SHORTEST_LIFE),
        (10**12, LONGEST_LIFE),
        ("nan", SHORTEST_LIFE),
        ([], USUAL_LIFE),
    ],
)
def test_a_token_and_its_life(expires_in: object, life: float) -> None:
    given = {"access_token": "abc", "token_type": "bearer", "expires_in": expires_in}
    assert read(200, given) == Grant(access_token="abc", life=life)


def test_a_new_refresh_token_comes_along() -> None:
    found = read(200, {"access_token": "abc", "refresh_token": "next", "expires_in": 60})
    assert found == Grant(access_token="abc", life=60.0, refresh_token="next")
    assert "abc" not in repr(found)
    assert "next" not in repr(found)


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"access_token": ""},
        {"access_token": 7},
        {"access_token": "a b"},
        {"access_token": "a\r\nb"},
        {"access_token": "a\x01b"},
        {"access_token": "x" * (MAX_TOKEN + 1)},
        {"access_token": "abc", "token_type": "mac"},
        [],
        b"<html>",
        b"",
        b"[" * 100_000,
    ],
)
def test_what_is_no_token_is_not_taken_for_one(document: object) -> None:
    assert refused(200, document).reason is Reason.UPSTREAM_TOKEN_UNAVAILABLE


def test_a_refusal_shows_its_word_its_codes_and_200_characters() -> None:
    found = refused(
        401,
        {
            "error": "invalid_client",
            "error_description": "AADSTS7000215: Invalid\r\nclient secret. " + "x" * 500,
            "error_codes": [7000215, "x", 1, 2, 3, 4],
            "trace_id": "hidden",
        },
    )
    assert found.reason is Reason.UPSTREAM_TOKEN_REFUSED
    assert found.refused
    words = found.detail.removeprefix("answered 401 invalid_client (7000215, 1, 2, 3): ")
    assert words.startswith("AADSTS7000215: Invalid client secret. xxx")
    assert len(words) == 200
    assert "hidden" not in found.detail


def test_what_cannot_be_printed_is_not() -> None:
    found = refused(400, {"error": "invalid_grant", "error_description": "a\x1b[31m\u202eb\x00c"})
    assert found.detail == "answered 400 invalid_grant: a?[31m?b?c"


@pytest.mark.parametrize("before", ["", "x" * 120 + " "], ids=["whole", "cut"])
@pytest.mark.parametrize("secret", ["hunter2!", "0123456789abcdef" + "Zz9_" * 100])
def test_nothing_of_a_secret_is_shown_wherever_the_description_is_cut(
    before: str, secret: str
) -> None:
    said = {"error": "invalid_client", "error_description": f"{before}not {secret} nor {secret}"}
    found = refused(401, said, secrets=(secret,))
    shown = found.detail.removeprefix("answered 401 invalid_client: ")
    assert shown == f"{before}not [...] nor [...]"
    assert refused(401, {"error": f"bad {secret}"}, secrets=(secret,)).detail.endswith("bad [...]")


def test_a_secret_that_is_repeated_is_hidden() -> None:
    secret = "0123456789abcdef-and-more"
    said = f"no such secret: {secret}; nor {secret[:18]}"
    found = refused(401, {"error": "invalid_client", "error_description": said}, secrets=(secret,))
    assert "0123456789" not in found.detail
    assert found.detail.endswith("no such secret: [...]; nor [...]")


@pytest.mark.parametrize(
    ("status", "document"),
    [
        (500, {"error": "invalid_client"}),
        (503, b"<html>busy</html>"),
        (429, {"error": "invalid_request"}),
        (400, {"error": "temporarily_unavailable"}),
        (400, b"<html>proxy</html>"),
        (302, b""),
        (404, {"message": "no such tenant"}),
    ],
)
def test_trouble_of_the_endpoint_is_no_refusal(status: int, document: object) -> None:
    assert refused(status, document).reason is Reason.UPSTREAM_TOKEN_UNAVAILABLE


@pytest.mark.parametrize(
    ("header", "wait"),
    [
        ("120", 120.0),
        ("0", 0.0),
        ("99999999", LONGEST_WAIT),
        ("soon", None),
        ("-1", None),
        ("", None),
    ],
)
def test_the_endpoint_s_own_time_is_heard(header: str, wait: float | None) -> None:
    assert refused(503, b"", retry_after=header).wait == wait


def test_its_clock_is_seen() -> None:
    date = "Fri, 27 Nov 2026 12:00:00 GMT"
    assert clock_skew({"date": date}, 1795780800.0 - 90) == 90.0
    assert clock_skew({"date": "yesterday"}, 5.0) == 0.0
    assert clock_skew({}, 5.0) == 0.0
