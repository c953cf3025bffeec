"""The control groups of the nodes' pods: all of them are below one group that is ours alone."""

import os
import signal
import time
from pathlib import Path

from .report import ClusterError

ROOT = Path("/sys/fs/cgroup")
OURS = "mailrelay-cluster"


def of_node(name: str) -> str:
    """The group below which a node's kubelet puts its pods."""
    return f"/{OURS}/{name}"


def create(name: str) -> None:
    if (ROOT / "cgroup.controllers").exists():
        _create_v2(name)
        return
    for hierarchy in ROOT.iterdir():
        if hierarchy.is_symlink() or not hierarchy.is_dir():
            continue
        for group in (hierarchy / OURS, hierarchy / OURS / name):
            group.mkdir(exist_ok=True)
            # A new cpuset group has no processors and no memory until it is given some.
            for file in ("cpuset.cpus", "cpuset.mems"):
                if (group / file).exists() and not (group / file).read_text().strip():
                    (group / file).write_text((group.parent / file).read_text())


def _create_v2(name: str) -> None:
    """The unified hierarchy: a group's controllers are switched on in its parent."""
    for group in (ROOT / OURS, ROOT / OURS / name):
        group.mkdir(exist_ok=True)
        for controller in ("cpuset", "cpu", "io", "memory", "pids"):
            if controller in (group.parent / "cgroup.controllers").read_text().split():
                (group.parent / "cgroup.subtree_control").write_text(f"+{controller}")
                (group / "cgroup.subtree_control").write_text(f"+{controller}")


def remove(name: str = "") -> bool:
    """Kill whatever is left in a node's groups (in all of ours, without a name) and remove them."""
    hierarchies = (
        [ROOT]
        if (ROOT / "cgroup.controllers").exists()
        else [p for p in ROOT.iterdir() if p.is_dir()]
    )
    found = False
    for hierarchy in hierarchies:
        top = hierarchy / OURS / name
        if top.is_dir():
            found = True
            _remove_tree(top)
    return found


def _remove_tree(top: Path) -> None:
    deadline = time.monotonic() + 5
    while top.exists():
        for group, _, _ in os.walk(top, topdown=False):
            try:
                for pid in Path(group, "cgroup.procs").read_text().split():
                    os.kill(int(pid), signal.SIGKILL)
                os.rmdir(group)
            except OSError:
                pass  # still busy, or gone already: the loop decides
        if time.monotonic() > deadline:
            raise ClusterError(f"The control group {top} is still busy after 5 seconds.")
        if top.exists():
            time.sleep(0.05)
