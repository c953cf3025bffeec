"""The gateway of any revision: a second tree in a temporary folder, removed at the end.

Each tree starts its gateway by its own tests/bench/relays.py, in a process of its own (serve.py): a
revision's modules, configuration format and arguments are its own business.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.bench.relays import ROOT

LOCK = Path("requirements/gateway.txt")
#: Where relays.py keeps the interpreter that it makes from the lock.
PYTHON = Path("build/bench-python")
#: Seconds that a tree may take to make that interpreter and start its gateway.
PATIENCE = 300


class RevisionError(Exception):
    """A revision that cannot be measured, in a sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """One revision's files, and the interpreter that runs its serve.py."""

    root: Path
    python: str


HERE = Tree(root=ROOT, python=sys.executable)


@contextlib.contextmanager
def tree_of(revision: str) -> Iterator[tuple[str, Tree]]:
    """The short name of a revision, and its tree as long as the context lasts.

    What our lock file installs is used as it is; another lock file's packages are installed into
    the tree.
    """
    commit = _git("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}").strip()
    with tempfile.TemporaryDirectory(prefix="mailrelay-bench-") as folder:
        root = Path(folder) / "tree"
        _git("worktree", "add", "--quiet", "--detach", str(root), commit)
        try:
            yield commit[:9], _made_ready(root)
        finally:
            _git("worktree", "remove", "--force", str(root))


def _made_ready(root: Path) -> Tree:
    lock = root / LOCK
    if lock.exists() and lock.read_bytes() == (ROOT / LOCK).read_bytes():
        (root / PYTHON).parent.mkdir(exist_ok=True)
        (root / PYTHON).symlink_to(ROOT / PYTHON)
        return Tree(root=root, python=sys.executable)
    sys.stderr.write(f"{LOCK} differs: installing the revision's own packages\n")
    if subprocess.run([root / "scripts" / "make-venv"], stdout=sys.stderr).returncode != 0:
        raise RevisionError("the revision's scripts/make-venv failed; see its output above")
    return Tree(root=root, python=str(root / ".venv" / "bin" / "python"))


class TreeGateway:
    """A tree's gateway, as load.py measures it."""

    def __init__(self, tree: Tree, folder: Path, sink_port: int) -> None:
        self.port = 0
        self._folder = folder
        serve = str(Path(__file__).with_name("serve.py"))
        self._command = [tree.python, serve, str(tree.root), str(folder), str(sink_port)]
        # before what the interpreter has installed: that is our tree, editable
        self._path = os.pathsep.join([str(tree.root / "gateway"), str(tree.root / "operator")])
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> int:
        """Start; the gateway's pid."""
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            cwd=self._folder,
            env={**os.environ, "PYTHONPATH": self._path},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert self._process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            line = await self._process.stdout.readline()
        if not line:
            raise RevisionError("the revision's gateway did not start; see the output above")
        said = json.loads(line)
        self.port = int(said["port"])
        return int(said["pid"])

    async def stop(self) -> None:
        """Stop it: serve.py does at the end of its input."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.close()
        async with asyncio.timeout(60):
            await self._process.wait()


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", "-C", ROOT, *arguments], capture_output=True, text=True)
    if done.returncode != 0:
        why = done.stderr.strip() or "no such revision"
        raise RevisionError(f"`git {' '.join(arguments)}`: {why}")
    return done.stdout
