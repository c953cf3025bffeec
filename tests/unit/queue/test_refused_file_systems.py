"""The file system of a spool is found in the table of mounts, and those are refused on which two
gateways could write it.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from mailrelay_gateway.queue.disk.folder import REFUSED_FILE_SYSTEMS, file_system_of

MOUNTS = """\
/dev/sda1 / ext4 rw,relatime 0 0
tmpfs /mnt tmpfs rw 0 0
files.example.com:/export /mnt/spool nfs4 rw,vers=4.2 0 0
/dev/sdb1 /mnt/spool/block xfs rw 0 0
//files.example.com/share /mnt/a\\040share cifs rw 0 0
old.example.com:/export /mnt/twice nfs rw 0 0
/dev/sdc1 /mnt/twice ext4 rw 0 0
a line of another kind
"""


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/mnt/spool", "nfs4"),
        ("/mnt/spool/queue", "nfs4"),
        ("/mnt/spool/block/queue", "xfs"),
        ("/mnt/spooled", "tmpfs"),
        ("/mnt/a share/queue", "cifs"),
        ("/mnt/twice", "ext4"),  # the later mount hides the earlier one
        ("/nowhere/else", "ext4"),
    ],
)
def test_the_innermost_and_latest_mount_counts(folder: str, kind: str) -> None:
    assert file_system_of(Path(folder), MOUNTS) == kind


def test_shared_file_systems_are_refused_and_block_volumes_are_not() -> None:
    assert {"nfs", "nfs4", "cifs"} <= REFUSED_FILE_SYSTEMS
    assert not {"ext4", "xfs", "btrfs", "tmpfs", "overlay"} & REFUSED_FILE_SYSTEMS
