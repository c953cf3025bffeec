"""A small file is there whole or not at all, whenever the power goes."""

from __future__ import annotations

import os
from pathlib import Path

from mailrelay_gateway.durable import write_durably


def test_the_octets_are_durable_before_the_name_and_the_name_before_the_end(
    tmp_path: Path,
) -> None:
    path = tmp_path / "file"
    path.write_text("before")
    synced: list[tuple[Path, str]] = []

    def fsync(descriptor: int) -> None:
        """What is made durable, and what the name stands for then."""
        what = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        written = what.read_text() if what.is_file() else ""
        assert written in ("after", "")
        synced.append((what, path.read_text()))

    write_durably(path, "after", fsync=fsync)
    assert synced == [(tmp_path / "file.new", "before"), (tmp_path, "after")]
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_what_a_crash_has_left_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "file.new").write_text("half")
    write_durably(tmp_path / "file", "whole", mode=0o600)
    assert (tmp_path / "file").read_text() == "whole"
    assert (tmp_path / "file").stat().st_mode & 0o077 == 0
    assert [each.name for each in tmp_path.iterdir()] == ["file"]
