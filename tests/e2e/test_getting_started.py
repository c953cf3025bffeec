"""docs/getting-started-cluster.md from step 3 on, its commands typed as they stand there.

What comes before is the images, which `make e2e` builds and loads, and Helm, which the tests'
cluster has as a library only: the chart is installed already, in the page's namespace.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import OPERATOR_NAMESPACE, Release
from tests.e2e.kubectl import Kubectl
from tests.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "getting-started-cluster.md").read_text()
#: Local ports of the page, and what they become here.
PORTS = ("12525", "18025")
#: After a port-forward a person types on; a script waits until it listens.
LISTENS = 'until (exec 3<>"/dev/tcp/127.0.0.1/{port}") 2>/dev/null; do sleep 0.1; done'


def commands(first: int, last: int) -> list[str]:
    """What is typed in the steps `first` to `last`, each with its lines of continuation."""
    typed = []
    for step in range(first, last + 1):
        section = re.search(rf"^## {step}\..*?(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
        assert section, step
        for block in re.findall(r"^```console\n(.*?)^```$", section[0], re.MULTILINE | re.DOTALL):
            typed += [line.strip() for line in re.split(r"^\$ ", block, flags=re.MULTILINE) if line]
    return typed


@pytest.fixture
def folder(tmp_path: Path, kubectl: Kubectl, release: Release) -> Iterator[Path]:
    """Where the commands are typed: examples/ is there, as in the repository."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    yield tmp_path
    example = str(ROOT / "examples" / "1-sandbox.yaml")
    kubectl.run("delete", "-n", OPERATOR_NAMESPACE, "-f", example, "--ignore-not-found")


def test_a_message_is_seen_at_the_end(folder: Path) -> None:
    assert f"--namespace {OPERATOR_NAMESPACE} " in " ".join(commands(2, 2))
    lines = ["set -eu", 'trap "kill $(jobs -p) 2>/dev/null || :" EXIT']
    for line in commands(3, 5):
        lines.append(line)
        if line.endswith("&"):
            lines.append(LISTENS.format(port=re.search(r" (\d+):\d+ &$", line)[1]))  # type: ignore[index]
            lines.append('trap "kill $(jobs -p | xargs) 2>/dev/null || :" EXIT')
    script = "\n".join(lines)
    for port in PORTS:
        script = script.replace(port, str(free_port()))
    done = subprocess.run(
        ["bash", "-c", script], cwd=folder, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    listed, _, raw = done.stdout.partition("Received:")
    assert '"subject":"Hello from the cluster"' in listed.replace('": "', '":"')
    assert "Subject: Hello from the cluster" in raw
    assert '"event":"accepted"' in raw.replace('": "', '":"')
