"""Which data folder is meant where none is named."""

from pathlib import Path

import pytest

from mailrelay_operator.cli.folder import DataFolder, FolderUnusable
from mailrelay_operator.cli.folders import choose


@pytest.fixture
def folders(tmp_path: Path) -> list[DataFolder]:
    return [DataFolder.create(tmp_path / name, relay=f"default/{name}") for name in ("a", "b")]


def test_the_only_one_is_meant(folders: list[DataFolder], tmp_path: Path) -> None:
    assert choose(tmp_path, [folders[0].path]) == folders[0].path


def test_of_several_the_one_in_which_a_relay_runs_is_meant(
    folders: list[DataFolder], tmp_path: Path
) -> None:
    with folders[1].locked():
        assert choose(tmp_path, [one.path for one in folders]) == folders[1].path


def test_where_none_or_several_run_it_is_asked_for(
    folders: list[DataFolder], tmp_path: Path
) -> None:
    paths = [one.path for one in folders]
    with pytest.raises(FolderUnusable, match="none with a running relay; choose one with --data"):
        choose(tmp_path, paths)
    in_two = pytest.raises(FolderUnusable, match="2 with a running relay")
    with folders[0].locked(), folders[1].locked(), in_two:
        choose(tmp_path, paths)


def test_looking_at_a_lock_neither_takes_nor_keeps_it(folders: list[DataFolder]) -> None:
    assert not folders[0].is_locked()
    with folders[0].locked():
        assert folders[0].is_locked()
    with folders[0].locked():
        pass
