"""Refresh tokens on disk: the newest, for those only whose it is, and nobody else's to read."""

from __future__ import annotations

import stat
from pathlib import Path

from mailrelay_gateway.contract import oauth2
from mailrelay_gateway.contract.oauth2 import OAuth2, SaslMechanism
from mailrelay_gateway.couriers.oauth2.kept import KeptTokens


def settings(given: str = "given", url: str = "https://one.example/token") -> OAuth2:
    return OAuth2(
        username="robot@example.com",
        mechanism=SaslMechanism.XOAUTH2,
        token_url=url,
        ca=None,
        scopes=(),
        grant=oauth2.RefreshToken(client_id="id", client_secret="", refresh_token=given),
    )


def test_the_newest_is_kept_for_the_login_that_it_came_of(tmp_path: Path) -> None:
    kept = KeptTokens(tmp_path)
    assert kept.read("up", settings()) == ""
    kept.keep("up", settings(), "first")
    kept.keep("up", settings(), "second")
    assert KeptTokens(tmp_path).read("up", settings()) == "second"
    assert kept.read("up", settings(given="another")) == ""
    assert kept.read("up", settings(url="https://two.example/token")) == ""
    assert kept.read("other", settings()) == ""


def test_nobody_else_may_read_it(tmp_path: Path) -> None:
    kept = KeptTokens(tmp_path)
    kept.keep("../../up", settings(), "token")
    [folder] = tmp_path.iterdir()
    [file] = folder.iterdir()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_what_a_crash_left_or_damaged_is_no_obstacle(tmp_path: Path) -> None:
    kept = KeptTokens(tmp_path)
    kept.keep("up", settings(), "token")
    [file] = (tmp_path / "oauth2").iterdir()
    file.with_suffix(".new").write_text("half")
    kept.keep("up", settings(), "next")
    assert kept.read("up", settings()) == "next"
    file.write_bytes(b"\xff{")
    assert kept.read("up", settings()) == ""


def test_nothing_stays_of_logins_that_are_gone(tmp_path: Path) -> None:
    kept = KeptTokens(tmp_path)
    kept.forget_all_but([])
    for name in ("one", "two"):
        kept.keep(name, settings(), name)
    kept.forget_all_but(["two"])
    assert kept.read("one", settings()) == ""
    assert kept.read("two", settings()) == "two"
    kept.forget("two")
    kept.forget("two")
    assert kept.read("two", settings()) == ""
