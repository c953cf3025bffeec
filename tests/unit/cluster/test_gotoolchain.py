"""A Go that is missing or too old is fetched from whatever module proxy the machine names."""

import stat
import zipfile
from pathlib import Path

import pytest
from testcluster import gotoolchain
from testcluster.layout import Layout
from testcluster.report import ClusterError


def fake_go(folder: Path, version: str, proxy: str = "") -> str:
    folder.mkdir(parents=True, exist_ok=True)
    go = folder / "go"
    go.write_text(
        f'#!/bin/sh\ncase $1 in\nversion) echo "go version {version} linux/amd64" ;;\n'
        f'env) echo "{proxy}" ;;\nesac\n'
    )
    go.chmod(go.stat().st_mode | stat.S_IXUSR)
    return str(go)


@pytest.mark.parametrize(
    ("said", "read"),
    [("go1.26.8", (1, 26, 8)), ("go1.9", (1, 9)), ("go1.27rc1", (1, 27, 1)), ("", ())],
)
def test_the_version_of_a_go_is_read(tmp_path: Path, said: str, read: tuple[int, ...]) -> None:
    assert gotoolchain.version(fake_go(tmp_path, said)) == read


def test_a_go_that_is_new_enough_is_taken_as_it_is(tmp_path: Path) -> None:
    go = fake_go(tmp_path / "bin", "go1.99.0")
    assert gotoolchain.find(Layout(tmp_path), {"PATH": str(tmp_path / "bin")}) == go


def test_the_named_proxies_are_asked_in_order() -> None:
    environment = {"GOPROXY": "https://one.invalid/,https://two.invalid|direct"}
    assert gotoolchain.proxies(environment, []) == ["https://one.invalid", "https://two.invalid"]


def test_an_old_go_tells_the_proxy_that_it_would_ask(tmp_path: Path) -> None:
    old = fake_go(tmp_path, "go1.19", "https://usual.invalid,direct")
    assert gotoolchain.proxies({}, [old]) == ["https://usual.invalid"]


def test_without_a_proxy_the_error_says_what_to_set() -> None:
    with pytest.raises(ClusterError, match=r"GOPROXY='off'.*set GOPROXY"):
        gotoolchain.proxies({"GOPROXY": "off"}, [])


def test_the_hash_is_go_s_own(tmp_path: Path) -> None:
    # What golang.org/x/mod/sumdb/dirhash.Hash1 says of these two files.
    archive = tmp_path / "module.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as content:
        content.writestr("def", "data for def")
        content.writestr("abc", "data for abc")
    expected = "h1:XlhtRI30IXmT42IaG36suXW924CcEWe9v1QSN2uLYig="
    assert gotoolchain.module_hash(archive) == expected


def test_another_content_is_refused(tmp_path: Path) -> None:
    served = tmp_path / "proxy/golang.org/toolchain/@v"
    served.mkdir(parents=True)
    name = f"v0.0.1-{gotoolchain.VERSION}.linux-amd64"
    with zipfile.ZipFile(served / f"{name}.zip", "w") as content:
        content.writestr(f"golang.org/toolchain@{name}/bin/go", "not Go at all")
    cache = tmp_path / "cache"
    with pytest.raises(ClusterError, match="hashes to h1:"):
        gotoolchain.fetch("linux-amd64", [(tmp_path / "proxy").as_uri()], cache / "go")
    assert list(cache.iterdir()) == []
