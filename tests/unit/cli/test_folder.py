"""The data folder belongs to one relay, keeps what was minted, and never holds half a file."""

import json
import os
import stat
from pathlib import Path

import pytest

from mailrelay_operator.cli.folder import DataFolder, FolderUnusable, default_folder

SECRET = {"metadata": {"namespace": "mail", "name": "login"}, "data": {"password": "eA=="}}


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_what_was_minted_is_there_again(tmp_path: Path) -> None:
    DataFolder.create(tmp_path / "relay", relay="mail/a").keep_secret(SECRET)
    assert DataFolder.create(tmp_path / "relay", relay="mail/a").secrets() == (SECRET,)
    assert DataFolder.find(tmp_path / "relay").relay == "mail/a"


def test_only_its_owner_may_read_it(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        folder = DataFolder.create(tmp_path / "deep" / "relay", relay="mail/a")
        folder.keep_secret(SECRET)
    finally:
        os.umask(before)
    paths = list(folder.path.rglob("*"))
    assert mode(folder.path) == 0o700
    assert {mode(path) for path in paths if path.is_dir()} == {0o700}
    assert {mode(path) for path in paths if path.is_file()} == {0o600}


def test_another_relay_s_folder_is_left_alone(tmp_path: Path) -> None:
    DataFolder.create(tmp_path / "relay", relay="mail/a")
    with pytest.raises(FolderUnusable, match="belongs to MailRelay mail/a, not mail/b"):
        DataFolder.create(tmp_path / "relay", relay="mail/b")


def test_a_folder_with_other_things_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("important")
    tmp_path.chmod(0o755)
    with pytest.raises(FolderUnusable, match=" contains other files; choose"):
        DataFolder.create(tmp_path, relay="mail/a")
    assert mode(tmp_path) == 0o755


def test_a_folder_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    folder = DataFolder.create(tmp_path / "relay", relay="mail/a")
    folder.write("mailrelay.json", json.dumps({"schema": 2, "relay": "mail/a"}).encode())
    with pytest.raises(FolderUnusable, match="written by a newer mailrelay"):
        DataFolder.create(folder.path, relay="mail/a")


def test_two_at_a_time_are_kept_apart(tmp_path: Path) -> None:
    folder = DataFolder.create(tmp_path / "relay", relay="mail/a")
    with (
        folder.locked(),
        pytest.raises(FolderUnusable, match="in use by another"),
        DataFolder.find(folder.path).locked(),
    ):
        pass
    with folder.locked():
        pass


def test_a_write_says_whether_it_changed_anything(tmp_path: Path) -> None:
    folder = DataFolder.create(tmp_path / "relay", relay="mail/a")
    assert folder.write("config/relay/v1", b"one")
    assert not folder.write("config/relay/v1", b"one")
    assert folder.write("config/relay/v1", b"two")
    assert (folder.config / "relay" / "v1").read_bytes() == b"two"
    assert [path.name for path in (folder.config / "relay").iterdir()] == ["v1"]


def test_a_damaged_file_is_named_with_what_to_do(tmp_path: Path) -> None:
    folder = DataFolder.create(tmp_path / "relay", relay="mail/a")
    folder.write("secrets/mail/login.json", b"{")
    with pytest.raises(FolderUnusable, match=r"login\.json is damaged .* backup"):
        folder.secrets()


def test_a_folder_that_was_never_made_is_explained(tmp_path: Path) -> None:
    with pytest.raises(FolderUnusable, match=" is not a mailrelay"):
        DataFolder.find(tmp_path / "nowhere")


def test_a_file_in_place_of_the_folder_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FolderUnusable, match="not a folder but a file;"):
        DataFolder.create(tmp_path / "file", relay="mail/a")


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, "/home/me/.local/state/mailrelay/mail.a"),
        ({"XDG_STATE_HOME": "/state"}, "/state/mailrelay/mail.a"),
        ({"XDG_STATE_HOME": "relative"}, "/home/me/.local/state/mailrelay/mail.a"),
    ],
)
def test_the_default_folder_follows_the_xdg_specification(environ: dict, expected: str) -> None:
    found = default_folder("mail", "a", environ=environ, home=Path("/home/me"))
    assert found == Path(expected)
