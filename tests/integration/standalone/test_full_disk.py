"""A full disk is said in a sentence, with an exit code, and costs no mail: clients keep theirs."""

import os
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.integration.standalone.conftest import (
    ENVIRONMENT,
    PROGRAM,
    sandbox_yaml,
)
from tests.ports import free_port
from tests.waiting import PATIENCE

# A small file system of our own, gone with the process that sees it; mounting needs root.
MOUNT = "mount -t tmpfs -o size={size} tmpfs {folder}"
pytestmark = pytest.mark.skipif(
    os.geteuid() != 0
    or subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode != 0,
    reason="needs root, to mount a small file system",
)


def up_on(folder: Path, size: str, then: str) -> "subprocess.CompletedProcess[str]":
    """Run a shell in which `folder` is a file system of that size, `$UP` starts the relay."""
    (folder / "relay.yaml").write_text(sandbox_yaml(free_port()))
    (folder / "disk").mkdir()
    up = [PROGRAM, "up", folder / "relay.yaml", "--data", folder / "disk" / "data"]
    up += ["--admin", f"127.0.0.1:{free_port()}"]
    script = f"""
{MOUNT.format(size=size, folder=folder / "disk")} || exit 99
UP={shlex.quote(shlex.join(map(str, up)))}
MAILRELAY={PROGRAM}
cd {folder}
{then}
"""
    return subprocess.run(
        ["unshare", "-m", "sh", "-c", script],
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
        check=False,
        env=ENVIRONMENT,
    )


def test_a_disk_that_is_full_at_the_start_ends_with_4(tmp_path: Path) -> None:
    done = up_on(tmp_path, "12k", "exec $UP")
    assert done.returncode == 4, done.stderr
    assert f"{tmp_path}/disk/data" in done.stderr
    assert "no space left; free some, or" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_nearly_full_disk_is_warned_of_and_mail_is_refused_for_now(tmp_path: Path) -> None:
    script = """
mkfifo said
$UP >said 2>&1 &
while read -r line; do
    echo "$line"
    case $line in *"config loaded"*) break ;; esac
done <said
$MAILRELAY send --data disk/data; echo "send: $?"
kill -INT $!
wait $!; echo "up: $?"
"""
    done = up_on(tmp_path, "64m", script)
    said = done.stdout + done.stderr
    assert "no mail is accepted (452)" in said
    assert "Refused at MAIL: 452 4.3.1" in said
    assert "The spool's disk is nearly" in said
    assert "send: 1" in said
