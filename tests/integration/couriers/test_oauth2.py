"""Upstreams that log us in by access token: a token endpoint and a server that check what they are
shown, and everything that can happen to a token. Nothing bounces, nothing is lost, and no password
is ever tried instead.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from mailrelay_gateway.contract import oauth2
from mailrelay_gateway.contract.oauth2 import OAuth2, SaslMechanism, token_file_name
from mailrelay_gateway.contract.status import UpstreamState
from mailrelay_gateway.couriers.oauth2.kept import KeptTokens
from mailrelay_gateway.couriers.smarthost.courier import SmarthostCourier
from mailrelay_gateway.couriers.smtp.health import Probing
from mailrelay_gateway.egress.client import Egress
from mailrelay_gateway.egress.rules import Rules
from mailrelay_gateway.message.envelope import Result
from mailrelay_gateway.reasons import Reason
from tests.integration.couriers.bearer import USER, asks_for
from tests.integration.couriers.conftest import PROBING, Rig
from tests.integration.couriers.memory_work import UPSTREAM, attempt
from tests.peers.odd_certificates import RSA_2048
from tests.peers.token_endpoint import (
    CLIENT_ID,
    CLIENT_SECRET,
    SCOPE,
    TokenEndpoint,
    assertion,
)
from tests.unit.oauth2.test_requests import pem
from tests.waiting import until

LOOPBACK = Rules(allowed=(ip_network("127.0.0.0/8"),), loopback=True)


@pytest.fixture
async def endpoint(rig: Rig) -> AsyncIterator[TokenEndpoint]:
    """A token endpoint with a certificate of the rig's authority."""
    async with TokenEndpoint(rig.authority.server_context("127.0.0.1")) as endpoint:
        yield endpoint


def login(
    endpoint: TokenEndpoint,
    rig: Rig,
    grant: Any = None,
    *,
    mechanism: SaslMechanism = SaslMechanism.XOAUTH2,
    url: str = "",
) -> OAuth2:
    return OAuth2(
        username=USER,
        mechanism=mechanism,
        token_url=url or endpoint.url,
        ca=rig.authority.pem,
        scopes=(SCOPE,),
        grant=grant or oauth2.ClientCredentials(client_id=CLIENT_ID, client_secret=CLIENT_SECRET),
    )


def run(
    rig: Rig,
    port: int,
    auth: OAuth2,
    *,
    messages: int = 100,
    rules: Rules = LOOPBACK,
    kept: KeptTokens | None = None,
    tokens: Path = Path("/nowhere"),
    probing: Probing = PROBING,
) -> SmarthostCourier:
    """A courier for one server at this port, with this login."""
    config = rig.config(port, login=auth, messages=messages)
    rig.metrics.configure(config)
    return rig.run(
        config, probing=probing, egress=Egress(rig.names, rules), kept=kept, tokens=tokens
    )


def configure(rig: Rig, port: int, auth: OAuth2, *, messages: int = 100) -> None:
    """Another login, or the same anew."""
    assert rig.courier is not None
    config = rig.config(port, login=auth, messages=messages)
    rig.metrics.configure(config)
    rig.courier.configure(config)


async def delivered(rig: Rig, count: int) -> None:
    """All of so many messages were delivered, and nothing else came of any."""
    await until(lambda: len(rig.work.finished) >= count, "all mail delivered")
    results = {outcome.result for _, outcomes in rig.work.finished for outcome in outcomes}
    assert results == {Result.DELIVERED}
    assert len(rig.work.finished) == count


@pytest.mark.parametrize("mechanism", list(SaslMechanism))
async def test_a_first_mail(rig: Rig, endpoint: TokenEndpoint, mechanism: SaslMechanism) -> None:
    server = await rig.serve(asks_for(endpoint, mechanism.value))
    run(rig, server.port, login(endpoint, rig, mechanism=mechanism))
    rig.work.add(attempt())
    await delivered(rig, 1)
    assert len(endpoint.forms) == 1
    assert 3500 < rig.metric("oauth_token_expiry_seconds", upstream=UPSTREAM) <= 3600


async def test_200_mails_across_the_ends_of_tokens(rig: Rig, endpoint: TokenEndpoint) -> None:
    endpoint.life = 3.0  # the shortest that is believed: renewed after some 2.5 s
    server = await rig.serve(asks_for(endpoint, "XOAUTH2"))
    courier = run(rig, server.port, login(endpoint, rig), messages=5)
    for number in range(100):
        rig.work.add(attempt(number))
    await delivered(rig, 100)
    first = len(endpoint.forms)
    await until(lambda: len(endpoint.forms) > first, "a token ahead of the end of the first")
    for number in range(100, 200):
        rig.work.add(attempt(number))
    await delivered(rig, 200)
    assert endpoint.most_at_once == 1
    assert not rig.work.holds
    assert courier.status()[0].state is UpstreamState.UP


async def test_many_openings_share_one_fetch(rig: Rig, endpoint: TokenEndpoint) -> None:
    endpoint.gate.clear()
    server = await rig.serve(asks_for(endpoint, "XOAUTH2"))
    run(rig, server.port, login(endpoint, rig))
    for number in range(10):
        rig.work.add(attempt(number))
    await until(lambda: len(endpoint.forms) == 1, "the fetch")
    await until(lambda: rig.work.held is not None, "a stall")  # nobody gets on
    endpoint.gate.set()
    await delivered(rig, 10)
    assert len(endpoint.forms) == 1


async def test_a_revoked_token_is_fetched_anew_before_anything_is_held(
    rig: Rig, endpoint: TokenEndpoint
) -> None:
    server = await rig.serve(asks_for(endpoint, "XOAUTH2"))
    run(rig, server.port, login(endpoint, rig), messages=1)
    rig.work.add(attempt(0))
    await delivered(rig, 1)
    endpoint.revoke()
    rig.work.add(attempt(1))
    await delivered(rig, 2)
    assert len(endpoint.forms) == 2
    assert not rig.work.holds


async def test_a_login_that_is_refused_with_every_token_is_held_in_the_server_s_words(
    rig: Rig, endpoint: TokenEndpoint
) -> None:
    endpoint.life = 3600.0
    server = await rig.serve(asks_for(endpoint, "XOAUTH2"))
    good = endpoint.good
    endpoint.good = lambda token: False  # type: ignore[method-assign]
    run(rig, server.port, login(endpoint, rig))
    rig.work.add(attempt())
    await until(lambda: rig.work.holds, "a hold")
    reason, detail = rig.work.holds[0]
    assert reason is Reason.UPSTREAM_AUTH_FAILED
    assert "535 5.7.3 Authentication unsuccessful to AUTH XOAUTH2 (status 401)" in detail
    assert len(server.peers) >= 2  # a second token was tried before
    endpoint.good = good  # type: ignore[method-assign]
    await delivered(rig, 1)


@pytest.mark.parametrize(
    ("answer", "reason", "words"),
    [
        (None, Reason.UPSTREAM_TOKEN_REFUSED, "401 invalid_client (7000215): AADSTS7000215"),
        (
            lambda: web.Response(status=503, text="busy"),
            Reason.UPSTREAM_TOKEN_UNAVAILABLE,
            "token endpoint answered 503",
        ),
        (
            lambda: web.Response(status=302, headers={"Location": "https://evil.example/"}),
            Reason.UPSTREAM_TOKEN_UNAVAILABLE,
            "token endpoint answered 302",
        ),
        (
            lambda: web.Response(body=b"x" * 70_000),
            Reason.UPSTREAM_TOKEN_UNAVAILABLE,
            "answered with more than 65536 octets",
        ),
    ],
)
async def test_an_endpoint_that_fails_holds_the_upstream_without_mail_too(
    rig: Rig,
    endpoint: TokenEndpoint,
    answer: Callable[[], web.Response] | None,
    reason: Reason,
    words: str,
) -> None:
    if answer is None:
        endpoint.client_secret = "another"
    else:
        endpoint.fault = answer
    server = await rig.serve(asks_for(endpoint, "XOAUTH2"))
    run(rig, server.port, login(endpoint, rig))
    await until(lambda: rig.work.holds, "a hold")
    held, detail = rig.work.holds[0]
    assert held is reason
    assert words in detail
    assert CLIENT_SECRET not in detail
    assert rig.metric("oauth_token_expiry_seconds", upstream=UPSTREAM) == 0.0
    rig.work.add(attempt())
    endpoint.fault = lambda: None
    endpoint.client_secret = CLIENT_SECRET
    await delivered(rig, 1)
    assert not server.peers[0].heard or "PLAIN" not in " ".join(server.peers[0].heard)


async def test_an_endpoint_that_is_away_costs_no_mail(rig: Rig, endpoint: TokenEndpoint) -> None:
    endpoint.life = 3.0
    server = await rig.serve(asks_for(endpoint, "XOAUTH2"))
    run(rig, server.port, login(endpoint, rig), messages=2)
    rig.work.add(attempt(0))
    await delivered(rig, 1)
    endpoint.fault = lambda: web.Response(status=500)
    # While the token lives mail goes out, whatever the endpoint says.
    asked = len(endpoint.forms)
    await until(lambda: len(endpoint.forms) > asked, "a renewal that fails")
    if not rig.work.holds:
        rig.work.add(attempt(1))
    await until(lambda: rig.work.holds, "the end of the token")
    for number in range(2, 30):
        rig.work.add(attempt(number))
    await until(lambda: len(endpoint.forms) > asked + 5, "several probes")
    endpoint.fault = lambda: None
    await until(lambda: not rig.work.waiting and not rig.work.running, "all mail gone")
    results = {outcome.result for _, outcomes in rig.work.finished for outcome in outcomes}
    assert results == {Result.DELIVERED}


async def test_a_token_that_is_there_again_ends_the_hold_at_once(
    rig: Rig, endpoint: TokenEndpoint
) -> None:
    endpoint.fault = lambda: web.Response(status=503, headers={"Retry-After": "1"})
    server = await rig.serve(asks_for(endpoint, "XOAUTH2"))
    never = Probing(first=10_000.0, longest=10_000.0, spread=0.0)
    run(rig, server.port, login(endpoint, rig), probing=never)
    rig.work.add(attempt())
    await until(lambda: rig.work.holds, "a hold")
    endpoint.fault = lambda: None
    await delivered(rig, 1)


async def test_a_rotated_refresh_token_outlives_the_process(
    rig: Rig, endpoint: TokenEndpoint, tmp_path: Path
) -> None:
    endpoint.refresh_tokens = {"given"}
    grant = oauth2.RefreshToken(client_id=CLIENT_ID, client_secret="", refresh_token="given")
    server = await rig.serve(asks_for(endpoint, "XOAUTH2"))
    for number in range(3):
        courier = run(rig, server.port, login(endpoint, rig, grant), kept=KeptTokens(tmp_path))
        rig.work.add(attempt(number))
        await delivered(rig, number + 1)
        await courier.stop(5.0)
    posted = [form["refresh_token"] for form in endpoint.forms]
    assert posted[0] == "given"
    assert len(set(posted)) == 3
    assert not rig.work.holds


async def test_of_a_kept_refresh_token_that_is_refused_the_given_one_takes_the_place(
    rig: Rig, endpoint: TokenEndpoint, tmp_path: Path
) -> None:
    grant = oauth2.RefreshToken(client_id=CLIENT_ID, client_secret="", refresh_token="given")
    settings = login(endpoint, rig, grant)
    kept = KeptTokens(tmp_path)
    kept.keep(UPSTREAM, settings, "revoked meanwhile")
    endpoint.refresh_tokens = {"given"}
    server = await rig.serve(asks_for(endpoint, "XOAUTH2"))
    run(rig, server.port, settings, kept=kept)
    rig.work.add(attempt())
    await delivered(rig, 1)
    assert [form["refresh_token"] for form in endpoint.forms] == ["revoked meanwhile", "given"]
    assert not rig.work.holds


async def test_a_federated_login_shows_the_pod_s_newest_token(
    rig: Rig, endpoint: TokenEndpoint, tmp_path: Path
) -> None:
    subject = "system:serviceaccount:mail:mailrelay-out"
    endpoint.keys, endpoint.subjects = (
        {"https://k8s": RSA_2048.public_key()},
        {"https://k8s": subject},
    )
    audience = endpoint.audience
    server = await rig.serve(asks_for(endpoint, "XOAUTH2"))
    grant = oauth2.Federated(client_id=CLIENT_ID, audience=audience)
    run(rig, server.port, login(endpoint, rig, grant), tokens=tmp_path)
    rig.work.add(attempt())
    await until(lambda: rig.work.holds, "a hold")
    path = tmp_path / token_file_name(audience)
    assert rig.work.holds[0] == (
        Reason.UPSTREAM_TOKEN_UNAVAILABLE,
        f"the ServiceAccount token for the audience {audience} cannot be read from {path}:"
        " No such file or directory",
    )
    now = endpoint.now
    path.write_text(
        assertion(RSA_2048, iss="https://k8s", sub=subject, aud=[audience], iat=now, exp=now + 600)
        + "\n"
    )
    await delivered(rig, 1)


@pytest.mark.parametrize("skew", [0.0, -7200.0, 7200.0])
async def test_google_s_key_works_by_whatever_clock(
    rig: Rig, endpoint: TokenEndpoint, skew: float
) -> None:
    endpoint.skew = skew
    endpoint.keys = {"sa@project": RSA_2048.public_key()}
    endpoint.subjects = {"sa@project": USER}
    grant = oauth2.ServiceAccountKey(issuer="sa@project", key_id="k", key=pem(RSA_2048))
    server = await rig.serve(asks_for(endpoint, "OAUTHBEARER"))
    auth = login(endpoint, rig, grant, mechanism=SaslMechanism.OAUTHBEARER)
    run(rig, server.port, auth)
    rig.work.add(attempt())
    await delivered(rig, 1)
    assert not rig.work.holds


async def test_a_loopback_endpoint_is_nobody_s_in_a_cluster(
    rig: Rig, endpoint: TokenEndpoint
) -> None:
    server = await rig.serve(asks_for(endpoint, "XOAUTH2"))
    everything = Rules(allowed=(ip_network("0.0.0.0/0"),))
    run(rig, server.port, login(endpoint, rig), rules=everything)
    await until(lambda: rig.work.holds, "a hold")
    reason, detail = rig.work.holds[0]
    assert reason is Reason.UPSTREAM_TOKEN_URL_NOT_ALLOWED
    assert "127.0.0.1 is a loopback address" in detail
    assert not endpoint.forms


async def test_an_endpoint_whose_certificate_is_nobody_s_gets_no_secret(
    rig: Rig, endpoint: TokenEndpoint
) -> None:
    server = await rig.serve(asks_for(endpoint, "XOAUTH2"))
    auth = login(endpoint, rig).model_copy(update={"ca": None})
    run(rig, server.port, auth)
    await until(lambda: rig.work.holds, "a hold")
    reason, detail = rig.work.holds[0]
    assert reason is Reason.UPSTREAM_TOKEN_UNAVAILABLE
    assert " has a certificate that" in detail
    assert not endpoint.forms


async def test_a_new_secret_is_tried_at_once(rig: Rig, endpoint: TokenEndpoint) -> None:
    endpoint.client_secret = "rotated"
    server = await rig.serve(asks_for(endpoint, "XOAUTH2"))
    run(rig, server.port, login(endpoint, rig))
    rig.work.add(attempt())
    await until(lambda: rig.work.holds, "a hold")
    grant = oauth2.ClientCredentials(client_id=CLIENT_ID, client_secret="rotated")
    configure(rig, server.port, login(endpoint, rig, grant))
    await delivered(rig, 1)


async def test_no_log_line_shows_a_token_or_a_secret(
    rig: Rig, endpoint: TokenEndpoint, caplog: pytest.LogCaptureFixture, capsys: Any
) -> None:
    caplog.set_level(logging.DEBUG)
    server = await rig.serve(asks_for(endpoint, "XOAUTH2"))
    courier = run(rig, server.port, login(endpoint, rig), messages=1)
    rig.work.add(attempt(0))
    await delivered(rig, 1)
    endpoint.revoke()
    endpoint.client_secret = "another"
    rig.work.add(attempt(1))
    await until(lambda: rig.work.holds, "a hold")
    out = capsys.readouterr()
    shown = out.out + out.err + caplog.text + repr(courier.__dict__) + repr(rig.work.holds)
    assert "oauth_token_fetched" in shown
    assert "oauth_token_rejected" in shown
    assert "oauth_token_failed" in shown
    assert CLIENT_SECRET not in shown
    assert not [token for token in endpoint.tokens if token[:40] in shown]
