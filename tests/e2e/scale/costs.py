"""What else a phase costs: CPU of the control plane on this machine, rounds of the operator; and
the revision that is measured."""

from __future__ import annotations

import os
import re
import subprocess
from collections import Counter
from pathlib import Path

import aiohttp

#: The programs of a control plane, where it runs on this machine.
CONTROL_PLANE = ("kube-apiserver", "etcd", "kube-controller", "kube-scheduler")
_ROUNDS = re.compile(r'mailrelay_reconcile_total\{kind="(\w+)",result="(\w+)"\} ([0-9.e+]+)')


def cpu_of(programs: tuple[str, ...]) -> float:
    """Seconds of CPU that all processes of these programs have taken so far."""
    found = 0.0
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal():
            continue
        try:
            before, _, after = (folder / "stat").read_text().rpartition(")")
        except OSError:
            continue  # it has ended
        if before.partition("(")[2].startswith(programs):
            fields = after.split()
            found += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return found


async def rounds(port: int) -> Counter[str]:
    """The operator's rounds so far, by kind and result; none before it serves metrics."""
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10.0)) as session,
            session.get(f"http://127.0.0.1:{port}/metrics") as answer,
        ):
            text = await answer.text()
    except (aiohttp.ClientError, OSError, TimeoutError):
        return Counter()
    return Counter(
        {f"{kind} {result}": int(float(count)) for kind, result, count in _ROUNDS.findall(text)}
    )


def revision() -> str:
    """The commit, and whether something is changed since."""
    return subprocess.run(
        ("git", "describe", "--always", "--dirty"), capture_output=True, text=True, check=True
    ).stdout.strip()
